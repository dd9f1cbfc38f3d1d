// Gotar tells what Go's archive/tar sees in the tar on its standard input, as JSON: one object a member, then one with
// the error, empty if there was none. Bytes are in hexadecimal digits.
package main

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"os"
	"strings"
)

const largest = 1 << 26 // contents beyond this are not hashed

type member struct {
	Path, Link, Type     string
	Mode, UID, GID       int64
	Seconds, Nanoseconds int64
	Major, Minor         int64
	Size                 int64
	Xattrs               map[string]string
	Sum                  string
}

func text(s string) string { return hex.EncodeToString([]byte(s)) }

func read(reader *tar.Reader, out *json.Encoder) error {
	for {
		header, err := reader.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if header.Typeflag == tar.TypeXGlobalHeader {
			continue
		}
		found := member{
			Path: text(header.Name), Link: text(header.Linkname), Type: text(string([]byte{header.Typeflag})),
			Mode: header.Mode & 07777, UID: int64(header.Uid), GID: int64(header.Gid),
			Seconds: header.ModTime.Unix(), Nanoseconds: int64(header.ModTime.Nanosecond()),
			Major: header.Devmajor, Minor: header.Devminor, Size: header.Size, Xattrs: map[string]string{},
		}
		for key, value := range header.PAXRecords {
			if name, is := strings.CutPrefix(key, "SCHILY.xattr."); is {
				found.Xattrs[text(name)] = text(value)
			}
		}
		if header.Size <= largest {
			hash := sha256.New()
			if _, err := io.Copy(hash, reader); err != nil {
				return err
			}
			found.Sum = hex.EncodeToString(hash.Sum(nil))
		}
		if err := out.Encode(found); err != nil {
			return err
		}
	}
}

func main() {
	out := json.NewEncoder(os.Stdout)
	message := ""
	// Without this wrapper the reader would seek, and find the end of a tar only afterwards.
	if err := read(tar.NewReader(struct{ io.Reader }{os.Stdin}), out); err != nil {
		message = err.Error()
	}
	out.Encode(map[string]string{"Error": message})
}
