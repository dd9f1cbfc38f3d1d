/* One row of what parse_tree (_native.c) returns, as catar/records.py (`Run`) describes it. */
#ifndef CATAR_ROWS_H
#define CATAR_ROWS_H

enum {
    ROW_MODE, /* 0 for the end of a directory */
    ROW_NAME,
    ROW_NAME_LEN,
    ROW_UID,
    ROW_GID,
    ROW_MTIME,
    ROW_USER,
    ROW_USER_LEN,
    ROW_GROUP,
    ROW_GROUP_LEN,
    ROW_TARGET,
    ROW_TARGET_LEN,
    ROW_SIZE,
    ROW_START,
    ROW_ENTRY,
    ROW_BEHIND,
    ROW_COLUMNS
};

#endif
