/*
 * base/hash.h - a fast hash of 64 bits, for tables and sums: nobody is kept from finding two texts of
 * one hash (base/digest.h does that), so whoever uses it compares what it finds, or does not mind.
 */
#ifndef BASE_HASH_H
#define BASE_HASH_H

#include "base/slice.h"

/* Every bit of x changes half of the answer's: the finalizer of splitmix64. */
static inline uint64_t hash_mix(uint64_t x)
{
    x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
    return x ^ x >> 31;
}

/* Eight bytes of s at a time, by the machine's order of bytes: not to be told to another machine.
 * seed: another one gives another hash; that of one text is the seed of the next, and so where one
 * ends and the next begins counts too. */
static inline uint64_t hash_slice(uint64_t seed, struct slice s)
{
    uint64_t hash = hash_mix(seed + s.len + UINT64_C(0x9e3779b97f4a7c15));

    for (size_t at = 0; at < s.len; at += sizeof hash) {
        size_t len = s.len - at < sizeof hash ? s.len - at : sizeof hash;
        uint64_t word = 0;
        memcpy(&word, s.ptr + at, len);
        hash = hash_mix(hash ^ word) + word;
    }
    return hash;
}

#endif
