/* The layouts of casync_compat.schema as numbers.
 *
 * Written by `python -m catar.derive casync_compat.schema`, never by hand; a test proves that it is up to date.
 * Sizes and offsets are in bytes; those of a record count its header.
 */
#ifndef CASYNC_LAYOUTS_H
#define CASYNC_LAYOUTS_H

#define CASYNC_MAX_CHUNK_SIZE 134217728
#define CASYNC_CHUNK_ID_SIZE 32

#define CASYNC_INDEX_HEADER_SIZE 64
#define CASYNC_INDEX_HEADER_AT_INDEX_SIZE 0
#define CASYNC_INDEX_HEADER_AT_INDEX_TYPE 8
#define CASYNC_INDEX_HEADER_AT_FEATURE_FLAGS 16
#define CASYNC_INDEX_HEADER_AT_CHUNK_SIZE_MIN 24
#define CASYNC_INDEX_HEADER_AT_CHUNK_SIZE_AVG 32
#define CASYNC_INDEX_HEADER_AT_CHUNK_SIZE_MAX 40
#define CASYNC_INDEX_HEADER_AT_TABLE_SIZE 48
#define CASYNC_INDEX_HEADER_AT_TABLE_TYPE 56

#define CASYNC_INDEX_ITEM_SIZE 40
#define CASYNC_INDEX_ITEM_AT_END 0
#define CASYNC_INDEX_ITEM_AT_ID 8

#define CASYNC_INDEX_TAIL_SIZE 40
#define CASYNC_INDEX_TAIL_AT_ZERO1 0
#define CASYNC_INDEX_TAIL_AT_ZERO2 8
#define CASYNC_INDEX_TAIL_AT_INDEX_OFFSET 16
#define CASYNC_INDEX_TAIL_AT_TABLE_SIZE 24
#define CASYNC_INDEX_TAIL_AT_MARKER 32

enum {
    WANT_FLAGS = 1 << 0,
    WANT_PROJID = 1 << 1,
    WANT_LIST = 1 << 2,
    WANT_LINKS = 1 << 3,
    WANT_RUNS = 1 << 4,
    WANT_LABELS = 1 << 5,
};

#endif
