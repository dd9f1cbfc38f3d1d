// Reads JSON, a line a question: a platform that is to run something, and the platforms of an index's manifests.
// Prints the numbers of those manifests that containerd's platforms package lets it run, best first.
package main

import (
	"bufio"
	"encoding/json"
	"os"
	"sort"

	"github.com/containerd/platforms"
	specs "github.com/opencontainers/image-spec/specs-go/v1"
)

type question struct {
	Wanted    string
	Manifests []specs.Platform
}

func answer(asked question) ([]int, error) {
	wanted, err := platforms.Parse(asked.Wanted)
	if err != nil {
		return nil, err
	}
	runs := platforms.Only(wanted)
	found := []int{}
	for number, manifest := range asked.Manifests {
		if runs.Match(manifest) {
			found = append(found, number)
		}
	}
	sort.SliceStable(found, func(a, b int) bool {
		return runs.Less(asked.Manifests[found[a]], asked.Manifests[found[b]])
	})
	return found, nil
}

func main() {
	in := bufio.NewScanner(os.Stdin)
	in.Buffer(nil, 1<<24)
	out := json.NewEncoder(os.Stdout)
	for in.Scan() {
		var asked question
		if err := json.Unmarshal(in.Bytes(), &asked); err != nil {
			panic(err)
		}
		found, err := answer(asked)
		if err != nil {
			found = nil // null: this is no platform
		}
		if err := out.Encode(found); err != nil {
			panic(err)
		}
	}
}
