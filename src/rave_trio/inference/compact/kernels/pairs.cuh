// Pairs of fp16, the first in the lower half of a word, and numbers of e4m3 as such: from compute capability 8.9 on.  Two
// results an instruction, and fp16 holds a number of e4m3 and the remainder of rounding to it.

using Pair = unsigned int;

// Rounded to nearest even, and limited to what fp16 holds.
__device__ inline Pair limited_pair(float first, float second) {
    Pair pair;
    asm("cvt.rn.satfinite.f16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(second), "f"(first));
    return pair;
}

__device__ inline Pair pair_fma(Pair a, Pair b, Pair c) {
    Pair result;
    asm("fma.rn.f16x2 %0, %1, %2, %3;" : "=r"(result) : "r"(a), "r"(b), "r"(c));
    return result;
}

__device__ inline Pair pair_minus(Pair a, Pair b) {
    Pair result;
    asm("sub.rn.f16x2 %0, %1, %2;" : "=r"(result) : "r"(a), "r"(b));
    return result;
}

__device__ inline Pair pair_max(Pair a, Pair b) {
    Pair result;
    asm("max.f16x2 %0, %1, %2;" : "=r"(result) : "r"(a), "r"(b));
    return result;
}

__device__ inline Pair pair_times(Pair a, Pair b) {
    Pair result;
    asm("mul.rn.f16x2 %0, %1, %2;" : "=r"(result) : "r"(a), "r"(b));
    return result;
}

// Four numbers of e4m3.
__device__ inline void from_e4m3(unsigned int packed, Pair (&pairs)[2]) {
    asm("{\n"
        ".reg .b16 low, high;\n"
        "mov.b32 {low, high}, %2;\n"
        "cvt.rn.f16x2.e4m3x2 %0, low;\n"
        "cvt.rn.f16x2.e4m3x2 %1, high;\n"
        "}" : "=r"(pairs[0]), "=r"(pairs[1]) : "r"(packed));
}

// Rounded to nearest even, and limited to what e4m3 holds.
__device__ inline unsigned int to_e4m3(Pair first, Pair second) {
    unsigned int packed;
    asm("{\n"
        ".reg .b16 low, high;\n"
        "cvt.rn.satfinite.e4m3x2.f16x2 low, %1;\n"
        "cvt.rn.satfinite.e4m3x2.f16x2 high, %2;\n"
        "mov.b32 %0, {low, high};\n"
        "}" : "=r"(packed) : "r"(first), "r"(second));
    return packed;
}

// The activation function of what is written in e4m3: see kernels_protocol.py.
__device__ inline Pair bent(Pair pair, Pair slopes) { return pair_max(pair, pair_times(pair, slopes)); }
