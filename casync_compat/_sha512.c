/*
 * SHA-512/256 of several buffers at once, compiled. hashlib is its twin: it computes the same, one after another.
 *
 * Limited API of CPython 3.11. One SHA-512 cannot use more than one block at a time, but eight of them fit side by side
 * into the 512-bit registers of AVX-512 and four into those of AVX2, which are looked for when the module is loaded: where
 * both are missing, LANES is 1 and buffers are hashed one by one. Lanes are independent, so buffers may differ in length:
 * the longest begin first, and a lane that ends takes the next one. The GIL is not held while hashing. The bytes of a
 * buffer decide nothing but its digest, so that one that another thread changes meanwhile gives an odd digest and no stray
 * read.
 *
 * Measured with gcc -O2 on an AMD EPYC (Zen 3), MB/s on one core over 1 MiB each: OpenSSL's SHA-512 740, one() below 530,
 * four lanes 1270. A fifth lane on the integer units beside the four made it slower (1000): too few registers. On one of a
 * later kind (Zen 5): OpenSSL 1230, one() 700, four lanes 1470, eight 3840; where only two of the eight have something to do
 * 940, four 1890.
 */

#include <Python.h>

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define BLOCK 128
#define DIGEST 32
#define LANES 8

#if defined(__x86_64__) && defined(__GNUC__)
#define HAVE_VECTORS 1
#include <immintrin.h>
#endif

/* FIPS 180-4, 4.2.3: fractional parts of the cube roots of the first 80 primes. */
static const uint64_t K[80] = {
    UINT64_C(0x428a2f98d728ae22), UINT64_C(0x7137449123ef65cd), UINT64_C(0xb5c0fbcfec4d3b2f),
    UINT64_C(0xe9b5dba58189dbbc), UINT64_C(0x3956c25bf348b538), UINT64_C(0x59f111f1b605d019),
    UINT64_C(0x923f82a4af194f9b), UINT64_C(0xab1c5ed5da6d8118), UINT64_C(0xd807aa98a3030242),
    UINT64_C(0x12835b0145706fbe), UINT64_C(0x243185be4ee4b28c), UINT64_C(0x550c7dc3d5ffb4e2),
    UINT64_C(0x72be5d74f27b896f), UINT64_C(0x80deb1fe3b1696b1), UINT64_C(0x9bdc06a725c71235),
    UINT64_C(0xc19bf174cf692694), UINT64_C(0xe49b69c19ef14ad2), UINT64_C(0xefbe4786384f25e3),
    UINT64_C(0x0fc19dc68b8cd5b5), UINT64_C(0x240ca1cc77ac9c65), UINT64_C(0x2de92c6f592b0275),
    UINT64_C(0x4a7484aa6ea6e483), UINT64_C(0x5cb0a9dcbd41fbd4), UINT64_C(0x76f988da831153b5),
    UINT64_C(0x983e5152ee66dfab), UINT64_C(0xa831c66d2db43210), UINT64_C(0xb00327c898fb213f),
    UINT64_C(0xbf597fc7beef0ee4), UINT64_C(0xc6e00bf33da88fc2), UINT64_C(0xd5a79147930aa725),
    UINT64_C(0x06ca6351e003826f), UINT64_C(0x142929670a0e6e70), UINT64_C(0x27b70a8546d22ffc),
    UINT64_C(0x2e1b21385c26c926), UINT64_C(0x4d2c6dfc5ac42aed), UINT64_C(0x53380d139d95b3df),
    UINT64_C(0x650a73548baf63de), UINT64_C(0x766a0abb3c77b2a8), UINT64_C(0x81c2c92e47edaee6),
    UINT64_C(0x92722c851482353b), UINT64_C(0xa2bfe8a14cf10364), UINT64_C(0xa81a664bbc423001),
    UINT64_C(0xc24b8b70d0f89791), UINT64_C(0xc76c51a30654be30), UINT64_C(0xd192e819d6ef5218),
    UINT64_C(0xd69906245565a910), UINT64_C(0xf40e35855771202a), UINT64_C(0x106aa07032bbd1b8),
    UINT64_C(0x19a4c116b8d2d0c8), UINT64_C(0x1e376c085141ab53), UINT64_C(0x2748774cdf8eeb99),
    UINT64_C(0x34b0bcb5e19b48a8), UINT64_C(0x391c0cb3c5c95a63), UINT64_C(0x4ed8aa4ae3418acb),
    UINT64_C(0x5b9cca4f7763e373), UINT64_C(0x682e6ff3d6b2b8a3), UINT64_C(0x748f82ee5defb2fc),
    UINT64_C(0x78a5636f43172f60), UINT64_C(0x84c87814a1f0ab72), UINT64_C(0x8cc702081a6439ec),
    UINT64_C(0x90befffa23631e28), UINT64_C(0xa4506cebde82bde9), UINT64_C(0xbef9a3f7b2c67915),
    UINT64_C(0xc67178f2e372532b), UINT64_C(0xca273eceea26619c), UINT64_C(0xd186b8c721c0c207),
    UINT64_C(0xeada7dd6cde0eb1e), UINT64_C(0xf57d4f7fee6ed178), UINT64_C(0x06f067aa72176fba),
    UINT64_C(0x0a637dc5a2c898a6), UINT64_C(0x113f9804bef90dae), UINT64_C(0x1b710b35131c471b),
    UINT64_C(0x28db77f523047d84), UINT64_C(0x32caab7b40c72493), UINT64_C(0x3c9ebe0a15c9bebc),
    UINT64_C(0x431d67c49c100d4c), UINT64_C(0x4cc5d4becb3e42b6), UINT64_C(0x597f299cfc657e2a),
    UINT64_C(0x5fcb6fab3ad6faec), UINT64_C(0x6c44198c4a475817),
};

/* FIPS 180-4, 5.3.6.2: where SHA-512/256 begins. */
static const uint64_t initial[8] = {
    UINT64_C(0x22312194fc2bf72c), UINT64_C(0x9f555fa3c84c64c2), UINT64_C(0x2393b86b6f53b151),
    UINT64_C(0x963877195940eabd), UINT64_C(0x96283ee2a88effe3), UINT64_C(0xbe5e1e2553863992),
    UINT64_C(0x2b0199fc2c85b8aa), UINT64_C(0x0eb72ddc81c52ca2),
};

/* Sixteen rounds, written once for words of either kind; ROUND and NEXT say what a round is. */
#define SIXTEEN(ROUND, NEXT, k)                                                                                          \
    NEXT(0) ROUND(a, b, c, d, e, f, g, h, 0, k) NEXT(1) ROUND(h, a, b, c, d, e, f, g, 1, k)                              \
    NEXT(2) ROUND(g, h, a, b, c, d, e, f, 2, k) NEXT(3) ROUND(f, g, h, a, b, c, d, e, 3, k)                              \
    NEXT(4) ROUND(e, f, g, h, a, b, c, d, 4, k) NEXT(5) ROUND(d, e, f, g, h, a, b, c, 5, k)                              \
    NEXT(6) ROUND(c, d, e, f, g, h, a, b, 6, k) NEXT(7) ROUND(b, c, d, e, f, g, h, a, 7, k)                              \
    NEXT(8) ROUND(a, b, c, d, e, f, g, h, 8, k) NEXT(9) ROUND(h, a, b, c, d, e, f, g, 9, k)                              \
    NEXT(10) ROUND(g, h, a, b, c, d, e, f, 10, k) NEXT(11) ROUND(f, g, h, a, b, c, d, e, 11, k)                          \
    NEXT(12) ROUND(e, f, g, h, a, b, c, d, 12, k) NEXT(13) ROUND(d, e, f, g, h, a, b, c, 13, k)                          \
    NEXT(14) ROUND(c, d, e, f, g, h, a, b, 14, k) NEXT(15) ROUND(b, c, d, e, f, g, h, a, 15, k)
#define FIRST(i)

#define ROR(x, n) ((x) >> (n) | (x) << (64 - (n)))
#define ONE_ROUND(a, b, c, d, e, f, g, h, i, k)                                                                          \
    t = h + w[i] + K[(k) + (i)] + (ROR(e, 14) ^ ROR(e, 18) ^ ROR(e, 41)) + (((f ^ g) & e) ^ g);                          \
    d += t;                                                                                                              \
    h = t + (ROR(a, 28) ^ ROR(a, 34) ^ ROR(a, 39)) + ((a & b) | (c & (a | b)));
#define ONE_NEXT(i)                                                                                                      \
    t = w[((i) + 1) & 15];                                                                                               \
    u = w[((i) + 14) & 15];                                                                                              \
    w[i] += (ROR(t, 1) ^ ROR(t, 8) ^ t >> 7) + w[((i) + 9) & 15] + (ROR(u, 19) ^ ROR(u, 61) ^ u >> 6);

static uint64_t big_endian(const uint8_t *at) {
    uint64_t word = 0;
    for (int i = 0; i < 8; i++)
        word = word << 8 | at[i];
    return word;
}

static void one(uint64_t state[8], const uint8_t *data, size_t blocks) {
    uint64_t w[16], t, u;
    for (; blocks; blocks--, data += BLOCK) {
        uint64_t a = state[0], b = state[1], c = state[2], d = state[3];
        uint64_t e = state[4], f = state[5], g = state[6], h = state[7];
        for (int i = 0; i < 16; i++)
            w[i] = big_endian(data + 8 * i);
        SIXTEEN(ONE_ROUND, FIRST, 0)
        for (int k = 16; k < 80; k += 16) {
            SIXTEEN(ONE_ROUND, ONE_NEXT, k)
        }
        state[0] += a, state[1] += b, state[2] += c, state[3] += d;
        state[4] += e, state[5] += f, state[6] += g, state[7] += h;
    }
}

#ifdef HAVE_VECTORS
typedef __m256i four;
#define ADD _mm256_add_epi64
#define XOR _mm256_xor_si256
#define AND _mm256_and_si256
#define SHR _mm256_srli_epi64
#define RORS(x, n) _mm256_or_si256(SHR(x, n), _mm256_slli_epi64(x, 64 - (n)))
#define XOR3(x, y, z) XOR(XOR(x, y), z)
/* maj(a, b, c) is b where a and b are the same or b and c are, so that a ^ b serves the next round as its b ^ c. */
#define FOUR_ROUND(a, b, c, d, e, f, g, h, i, k)                                                                         \
    t = ADD(ADD(h, ADD(w[i], _mm256_set1_epi64x((long long)K[(k) + (i)]))),                                              \
            ADD(XOR3(RORS(e, 14), RORS(e, 18), RORS(e, 41)), XOR(AND(XOR(f, g), e), g)));                                \
    d = ADD(d, t);                                                                                                       \
    ab = XOR(a, b);                                                                                                      \
    h = ADD(t, ADD(XOR3(RORS(a, 28), RORS(a, 34), RORS(a, 39)), XOR(AND(bc, ab), b)));                                   \
    bc = ab;
#define FOUR_NEXT(i)                                                                                                     \
    t = w[((i) + 1) & 15];                                                                                               \
    u = w[((i) + 14) & 15];                                                                                              \
    w[i] = ADD(ADD(w[i], XOR3(RORS(t, 1), _mm256_shuffle_epi8(t, by_eight), SHR(t, 7))),                                 \
               ADD(w[((i) + 9) & 15], XOR3(RORS(u, 19), RORS(u, 61), SHR(u, 6))));

#define LOAD(at) _mm256_loadu_si256((const four *)(at))

/* The same for four streams; state[i] holds word i of each. */
__attribute__((target("avx2"))) static void four_at_once(uint64_t state[8][LANES], const uint8_t *const data[LANES],
                                                         size_t blocks) {
    const four swap = _mm256_set_epi8(8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15,
                                      0, 1, 2, 3, 4, 5, 6, 7);
    const four by_eight = _mm256_set_epi8(8, 15, 14, 13, 12, 11, 10, 9, 0, 7, 6, 5, 4, 3, 2, 1, 8, 15, 14, 13, 12, 11,
                                          10, 9, 0, 7, 6, 5, 4, 3, 2, 1);
    const uint8_t *p = data[0], *q = data[1], *r = data[2], *s = data[3];
    four w[16], sum[8], t, u, ab, bc;

    for (int i = 0; i < 8; i++)
        sum[i] = LOAD(state[i]);
    for (; blocks; blocks--, p += BLOCK, q += BLOCK, r += BLOCK, s += BLOCK) {
        four a = sum[0], b = sum[1], c = sum[2], d = sum[3], e = sum[4], f = sum[5], g = sum[6], h = sum[7];
        for (int i = 0; i < 4; i++) { /* four words of each stream become each word of four streams */
            four pq = _mm256_unpacklo_epi64(LOAD(p + 32 * i), LOAD(q + 32 * i));
            four pq_high = _mm256_unpackhi_epi64(LOAD(p + 32 * i), LOAD(q + 32 * i));
            four rs = _mm256_unpacklo_epi64(LOAD(r + 32 * i), LOAD(s + 32 * i));
            four rs_high = _mm256_unpackhi_epi64(LOAD(r + 32 * i), LOAD(s + 32 * i));
            w[4 * i] = _mm256_shuffle_epi8(_mm256_permute2x128_si256(pq, rs, 0x20), swap);
            w[4 * i + 1] = _mm256_shuffle_epi8(_mm256_permute2x128_si256(pq_high, rs_high, 0x20), swap);
            w[4 * i + 2] = _mm256_shuffle_epi8(_mm256_permute2x128_si256(pq, rs, 0x31), swap);
            w[4 * i + 3] = _mm256_shuffle_epi8(_mm256_permute2x128_si256(pq_high, rs_high, 0x31), swap);
        }
        bc = XOR(b, c);
        SIXTEEN(FOUR_ROUND, FIRST, 0)
        for (int k = 16; k < 80; k += 16) {
            SIXTEEN(FOUR_ROUND, FOUR_NEXT, k)
        }
        sum[0] = ADD(sum[0], a), sum[1] = ADD(sum[1], b), sum[2] = ADD(sum[2], c), sum[3] = ADD(sum[3], d);
        sum[4] = ADD(sum[4], e), sum[5] = ADD(sum[5], f), sum[6] = ADD(sum[6], g), sum[7] = ADD(sum[7], h);
    }
    for (int i = 0; i < 8; i++)
        _mm256_storeu_si256((four *)state[i], sum[i]);
}

typedef __m512i eight;
#define ADD8 _mm512_add_epi64
#define ROR8 _mm512_ror_epi64
#define SHR8 _mm512_srli_epi64
#define BITS8(x, y, z, table) _mm512_ternarylogic_epi64(x, y, z, table) /* bit 4x + 2y + z of the table */
#define XOR3_8(x, y, z) BITS8(x, y, z, 0x96)
#define EIGHT_ROUND(a, b, c, d, e, f, g, h, i, k)                                                                        \
    t = ADD8(ADD8(h, ADD8(w[i], _mm512_set1_epi64((long long)K[(k) + (i)]))),                                            \
             ADD8(XOR3_8(ROR8(e, 14), ROR8(e, 18), ROR8(e, 41)), BITS8(e, f, g, 0xca)));                                 \
    d = ADD8(d, t);                                                                                                      \
    h = ADD8(t, ADD8(XOR3_8(ROR8(a, 28), ROR8(a, 34), ROR8(a, 39)), BITS8(a, b, c, 0xe8)));
#define EIGHT_NEXT(i)                                                                                                    \
    t = w[((i) + 1) & 15];                                                                                               \
    u = w[((i) + 14) & 15];                                                                                              \
    w[i] = ADD8(ADD8(w[i], XOR3_8(ROR8(t, 1), ROR8(t, 8), SHR8(t, 7))),                                                  \
                ADD8(w[((i) + 9) & 15], XOR3_8(ROR8(u, 19), ROR8(u, 61), SHR8(u, 6))));

#define AVX512 __attribute__((target("avx512f,avx512bw")))

/* Eight words of each of eight streams become each word of eight streams, big-endian ones numbers. */
AVX512 static inline void transpose(eight w[8], const uint8_t *const at[LANES], size_t offset) {
    const eight swap = _mm512_broadcast_i32x4(_mm_set_epi8(8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7));
    eight row[8], pairs[8], fours[8];
    for (int i = 0; i < 8; i++)
        row[i] = _mm512_shuffle_epi8(_mm512_loadu_si512(at[i] + offset), swap);
    for (int i = 0; i < 8; i += 2) { /* words 0, 2, 4 and 6 of two streams, and 1, 3, 5 and 7 */
        pairs[i] = _mm512_unpacklo_epi64(row[i], row[i + 1]);
        pairs[i + 1] = _mm512_unpackhi_epi64(row[i], row[i + 1]);
    }
    for (int i = 0; i < 8; i += 4)
        for (int odd = 0; odd < 2; odd++) { /* words 0 and 4 (+ odd) of four streams, and 2 and 6 */
            fours[i + odd] = _mm512_shuffle_i64x2(pairs[i + odd], pairs[i + 2 + odd], 0x88);
            fours[i + 2 + odd] = _mm512_shuffle_i64x2(pairs[i + odd], pairs[i + 2 + odd], 0xdd);
        }
    for (int i = 0; i < 4; i++) {
        w[i] = _mm512_shuffle_i64x2(fours[i], fours[4 + i], 0x88);
        w[4 + i] = _mm512_shuffle_i64x2(fours[i], fours[4 + i], 0xdd);
    }
}

/* The same for eight streams. */
AVX512 static void eight_at_once(uint64_t state[8][LANES], const uint8_t *const data[LANES], size_t blocks) {
    eight w[16], sum[8], t, u;

    for (int i = 0; i < 8; i++)
        sum[i] = _mm512_loadu_si512(state[i]);
    for (size_t at = 0; at < blocks * BLOCK; at += BLOCK) {
        eight a = sum[0], b = sum[1], c = sum[2], d = sum[3], e = sum[4], f = sum[5], g = sum[6], h = sum[7];
        transpose(w, data, at);
        transpose(w + 8, data, at + BLOCK / 2);
        SIXTEEN(EIGHT_ROUND, FIRST, 0)
        for (int k = 16; k < 80; k += 16) {
            SIXTEEN(EIGHT_ROUND, EIGHT_NEXT, k)
        }
        sum[0] = ADD8(sum[0], a), sum[1] = ADD8(sum[1], b), sum[2] = ADD8(sum[2], c), sum[3] = ADD8(sum[3], d);
        sum[4] = ADD8(sum[4], e), sum[5] = ADD8(sum[5], f), sum[6] = ADD8(sum[6], g), sum[7] = ADD8(sum[7], h);
    }
    for (int i = 0; i < 8; i++)
        _mm512_storeu_si512(state[i], sum[i]);
}
#endif

typedef struct {
    Py_buffer view;
    uint8_t digest[DIGEST];
} message;

/* One stream under way: whole blocks of the message where it lies, then the last one or two from a copy, padded. */
typedef struct {
    message *of; /* NULL when there is nothing left to do here */
    const uint8_t *at;
    size_t blocks, last_blocks;
    uint8_t last[2 * BLOCK];
} lane;

typedef struct {
    uint64_t state[8][LANES];
    lane lanes[LANES];
    message **next, **end;
    int busy, used; /* lanes */
} work;

static void begin(work *job, int i) {
    lane *l = &job->lanes[i];
    l->of = job->next < job->end ? *job->next++ : NULL;
    if (!l->of)
        return;
    size_t size = (size_t)l->of->view.len, rest = size % BLOCK;
    const uint8_t *data = l->of->view.buf;
    l->last_blocks = rest + 17 > BLOCK ? 2 : 1; /* a byte of 0x80 and the length in bits, in 16 bytes */
    memset(l->last, 0, sizeof l->last);
    if (rest)
        memcpy(l->last, data + (size - rest), rest);
    l->last[rest] = 0x80;
    uint8_t *tail = l->last + l->last_blocks * BLOCK;
    for (int byte = 1; byte <= 8; byte++)
        tail[-byte] = (uint8_t)((uint64_t)size << 3 >> 8 * (byte - 1));
    tail[-9] = (uint8_t)((uint64_t)size >> 61);
    l->at = data;
    l->blocks = size / BLOCK;
    for (int word = 0; word < 8; word++)
        job->state[word][i] = initial[word];
    job->busy++;
    if (!l->blocks) {
        l->at = l->last;
        l->blocks = l->last_blocks;
        l->last_blocks = 0;
    }
}

static void advance(work *job, int i, size_t blocks) {
    lane *l = &job->lanes[i];
    l->at += blocks * BLOCK;
    l->blocks -= blocks;
    if (l->blocks)
        return;
    if (l->last_blocks) {
        l->at = l->last;
        l->blocks = l->last_blocks;
        l->last_blocks = 0;
        return;
    }
    for (int byte = 0; byte < DIGEST; byte++)
        l->of->digest[byte] = (uint8_t)(job->state[byte / 8][i] >> (56 - byte % 8 * 8));
    job->busy--;
    begin(job, i);
}

#ifdef HAVE_VECTORS
static void step_all(work *job) {
    const uint8_t *data[LANES];
    const uint8_t *some = NULL;
    size_t blocks = SIZE_MAX;
    for (int i = 0; i < job->used; i++)
        if (job->lanes[i].of && job->lanes[i].blocks <= blocks) {
            some = job->lanes[i].at;
            blocks = job->lanes[i].blocks;
        }
    for (int i = 0; i < job->used; i++) /* a lane with nothing to do goes over another's bytes, for nothing */
        data[i] = job->lanes[i].of ? job->lanes[i].at : some;
    (job->used > 4 ? eight_at_once : four_at_once)(job->state, data, blocks);
    for (int i = 0; i < job->used; i++)
        if (job->lanes[i].of)
            advance(job, i, blocks);
}
#endif

static void step_one(work *job, int i) {
    uint64_t state[8];
    size_t blocks = job->lanes[i].blocks;
    for (int word = 0; word < 8; word++)
        state[word] = job->state[word][i];
    one(state, job->lanes[i].at, blocks);
    for (int word = 0; word < 8; word++)
        job->state[word][i] = state[word];
    advance(job, i, blocks);
}

static int lanes_here(void) {
#ifdef HAVE_VECTORS
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw"))
        return 8;
    return __builtin_cpu_supports("avx2") ? 4 : 1;
#else
    return 1;
#endif
}

/* Runs without the GIL: nothing of Python in here. */
static void hash_all(message **order, size_t count, int lanes) {
    work job = {.next = order, .end = order + count, .used = lanes};
    for (int i = 0; i < lanes; i++)
        begin(&job, i);
    while (job.busy) {
#ifdef HAVE_VECTORS
        if (lanes > 1 && job.busy > 1) {
            step_all(&job);
            continue;
        }
#endif
        for (int i = 0; i < lanes; i++)
            if (job.lanes[i].of)
                step_one(&job, i);
    }
}

static int longest_first(const void *left, const void *right) {
    Py_ssize_t a = (*(message *const *)left)->view.len, b = (*(message *const *)right)->view.len;
    return (a < b) - (a > b);
}

static PyObject *list_of(const message *messages, Py_ssize_t count) {
    PyObject *list = PyList_New(count);
    for (Py_ssize_t i = 0; list && i < count; i++) {
        PyObject *item = PyBytes_FromStringAndSize((const char *)messages[i].digest, DIGEST);
        /* PyList_SetItem() takes over the item, even when it fails. */
        if (!item || PyList_SetItem(list, i, item) < 0)
            Py_CLEAR(list);
    }
    return list;
}

static PyObject *sha512_256(PyObject *module, PyObject *arguments) {
    PyObject *argument = NULL, *buffers = NULL, *result = NULL;
    message *messages = NULL, **order = NULL;
    Py_ssize_t count = 0, held = 0;
    int lanes = lanes_here();
    (void)module;

    if (!PyArg_ParseTuple(arguments, "O|i", &argument, &lanes))
        return NULL;
    if ((lanes != 1 && lanes != 4 && lanes != 8) || lanes > lanes_here()) {
        PyErr_SetString(PyExc_ValueError, "lanes: 1, 4 or 8, and no more than LANES");
        return NULL;
    }
    buffers = PySequence_Tuple(argument);
    if (!buffers)
        return NULL;
    count = PyTuple_Size(buffers);
    messages = PyMem_Calloc((size_t)count + 1, sizeof *messages);
    order = PyMem_Calloc((size_t)count + 1, sizeof *order);
    if (!messages || !order) {
        PyErr_NoMemory();
        goto end;
    }
    for (; held < count; held++) {
        if (PyObject_GetBuffer(PyTuple_GetItem(buffers, held), &messages[held].view, PyBUF_SIMPLE) < 0)
            goto end;
        order[held] = &messages[held];
    }
    Py_BEGIN_ALLOW_THREADS
    qsort(order, (size_t)count, sizeof *order, longest_first);
    hash_all(order, (size_t)count, lanes);
    Py_END_ALLOW_THREADS
    result = list_of(messages, count);
end:
    while (held > 0)
        PyBuffer_Release(&messages[--held].view);
    PyMem_Free(messages);
    PyMem_Free(order);
    Py_DECREF(buffers);
    return result;
}

static PyMethodDef methods[] = {
    {"sha512_256", sha512_256, METH_VARARGS,
     "sha512_256(buffers, lanes=LANES, /)\n--\n\n"
     "The SHA-512/256 of each buffer, in order, so many at the same time; see casync_compat.ids.Digest.of_many."},
    {NULL, NULL, 0, NULL},
};

static int execute(PyObject *module) { return PyModule_AddIntConstant(module, "LANES", lanes_here()); }

static PyModuleDef_Slot slots[] = {{Py_mod_exec, execute}, {0, NULL}};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "_sha512", "SHA-512/256 of several buffers at once.", 0, methods, slots, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit__sha512(void) { return PyModuleDef_Init(&definition); }
