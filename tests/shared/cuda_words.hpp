// CUDA's words for a host compiler: a kernel is a function that is called once for each thread, one after the other.

#include <cmath>
#include <cstring>

#define __device__
#define __global__
#define __restrict__
#define __launch_bounds__(...)

struct Index {
    unsigned int x, y;
};
static thread_local Index blockIdx, blockDim, gridDim, threadIdx;

struct alignas(8) uint2 {
    unsigned int x, y;
};
struct alignas(16) uint4 {
    unsigned int x, y, z, w;
};

// In double the product is exact and the sum nearly so: what is rounded to float32 is rounded once, as by the device.
static inline float fused(float a, float b, float c) { return (float)((double)a * b + c); }
#define fmaf fused

struct Half {
    unsigned short bits;
};

static inline float to_float(Half half) {
    const int exponent = half.bits >> 10 & 31, fraction = half.bits & 1023;
    const float sign = half.bits & 0x8000 ? -1.0f : 1.0f;
    if (exponent == 31) return fraction ? NAN : sign * INFINITY;
    return sign * (exponent ? std::ldexp(1024.0f + fraction, exponent - 25) : std::ldexp((float)fraction, -24));
}

// Rounded to nearest even.
static inline void from_float(float value, Half& half) {
    const unsigned short sign = std::signbit(value) ? 0x8000 : 0;
    const float size = std::fabs(value);
    if (std::isnan(value)) {
        half.bits = 0x7fff;
    } else if (size >= 65520.0f) {
        half.bits = sign | 0x7c00;
    } else if (size < 0x1p-14f) {
        half.bits = sign | (unsigned short)std::nearbyint(std::ldexp(size, 24));
    } else {
        int exponent;
        const float fraction = std::frexp(size, &exponent);
        half.bits = sign | (unsigned short)(((exponent + 13) << 10) + (int)std::nearbyint(std::ldexp(fraction, 11)));
    }
}

template <class Kernel, class... Arguments>
static void run_grid(Kernel kernel, const int* grid, const int* block, Arguments... arguments) {
    blockDim = {(unsigned int)block[0], (unsigned int)block[1]};
    for (int y = 0; y < grid[1] * block[1]; ++y)
        for (int x = 0; x < grid[0] * block[0]; ++x) {
            blockIdx = {(unsigned int)(x / block[0]), (unsigned int)(y / block[1])};
            threadIdx = {(unsigned int)(x % block[0]), (unsigned int)(y % block[1])};
            kernel(arguments...);
        }
}
