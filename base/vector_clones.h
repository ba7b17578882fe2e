// ATTAR_VECTOR_CLONES before a function: one source, two machine codes, picked when the program starts. Both round alike: no
// multiply-add is fused.
#pragma once

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__SANITIZE_ADDRESS__)
#define ATTAR_VECTOR_CLONES __attribute__((target_clones("avx2", "default")))
#else
#define ATTAR_VECTOR_CLONES
#endif
