// Half precision by PTX instructions, so that no header of the CUDA toolkit is needed.

struct Half {
    unsigned short bits;
};

__device__ inline float to_float(Half half) {
    float value;
    asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(half.bits));
    return value;
}

// Rounded to nearest even.
__device__ inline void from_float(float value, Half& half) {
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(half.bits) : "f"(value));
}
