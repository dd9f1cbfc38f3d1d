/* 64-bit numbers: little-endian at any address, as they stand in archives, and as arguments from Python. */
#ifndef CATAR_NUMBERS_H
#define CATAR_NUMBERS_H

#include <Python.h>
#include <stdint.h>
#include <string.h>

static inline uint64_t load(const unsigned char *p)
{
    uint64_t v;
    memcpy(&v, p, 8);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    v = __builtin_bswap64(v);
#endif
    return v;
}

static inline void store(unsigned char *p, uint64_t v)
{
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    v = __builtin_bswap64(v);
#endif
    memcpy(p, &v, 8);
}

/* For "O&" of PyArg_ParseTuple, which takes no number that does not fit; "K" would keep the lower bits of any. */
static inline int as_uint64(PyObject *number, void *to)
{
    unsigned long long v = PyLong_AsUnsignedLongLong(number);
    if (v == (unsigned long long)-1 && PyErr_Occurred())
        return 0;
    *(uint64_t *)to = v;
    return 1;
}

#endif
