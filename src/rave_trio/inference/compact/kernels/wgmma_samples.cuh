// The last 3x3 convolution, its scale where it reads e4m3, and its bias, a thread a pixel: what kernels share that end in a
// picture.
// A product's rows are the outputs, (plane * FACTOR + row) * FACTOR + column of a pixel's block: its samples.
//
// Before this text, beside what wgmma_strip.cuh wants: FACTOR.

constexpr int PLANES = 3;
constexpr int SAMPLES = FACTOR * FACTOR;        // of a pixel in each plane
constexpr int STAGE_PITCH = WIDTH + 8;  // floats, so that rows that are written together lie in different banks
constexpr int STAGE_BYTES = OUTPUTS * STAGE_PITCH * 4;
static_assert(ROWS == 1 && PLANES * SAMPLES <= OUTPUTS, "a product holds all outputs");

// Of fp16, rows dense, planes apart.
struct Planes {
    u16* samples;
    long long plane;  // elements from one to the next
};

__device__ inline float read_sample(const u16* sample) {
    float value;
    asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(*sample));
    return value;
}

// Whether runs of COUNT samples, one behind the other in rows of such runs, lie at multiples of what they take.
template <int COUNT>
__device__ inline bool are_whole(const Planes& planes) {
    return ((u64)planes.samples / 2 | (u64)planes.plane) % COUNT == 0;
}

__device__ inline void write_words(u16* samples, u32 first, u32 second) {
    asm volatile("st.global.v2.b32 [%0], {%1, %2};" ::"l"(samples), "r"(first), "r"(second) : "memory");
}

// COUNT neighbours; IS_WHOLE if their address is a multiple of what they take, a power of two.
template <bool IS_WHOLE, int COUNT>
__device__ inline void write_samples(u16* samples, const float (&values)[COUNT]) {
    u32 packed[(COUNT + 1) / 2];
#pragma unroll
    for (int i = 0; i < COUNT; i += 2)
        packed[i / 2] = two_halves(values[i], i + 1 < COUNT ? values[i + 1] : 0);
    if constexpr (IS_WHOLE && COUNT == 4) {
        write_words(samples, packed[0], packed[1]);
    } else if constexpr (IS_WHOLE && COUNT == 2) {
        *(u32*)samples = packed[0];
    } else {
#pragma unroll
        for (int i = 0; i < COUNT; ++i) samples[i] = (u16)(packed[i / 2] >> i % 2 * 16);
    }
}

__device__ inline float read_shared(u32 address) {
    float value;
    asm volatile("ld.shared.f32 %0, [%1];" : "=f"(value) : "r"(address));
    return value;
}

__device__ inline void write_shared(u32 address, float value) {
    asm volatile("st.shared.f32 [%0], %1;" ::"r"(address), "f"(value) : "memory");
}

// Neighbours.
__device__ inline void write_pair(u32 address, float first, float second) {
    asm volatile("st.shared.v2.f32 [%0], {%1, %2};" ::"r"(address), "f"(first), "f"(second) : "memory");
}

// See load_weights.
__device__ inline int product_row(int i, int half) {
    return threadIdx.x % WARPGROUP / 32 * 16 + i + 8 * half;
}

// Sums, scaled and with their bias, go through shared memory, `stage`, where output o of pixel p of the strip is float
// o * STAGE_PITCH + p afterwards.
struct Stage {
    float scale[2], bias[2];
    int group;

    __device__ Stage(const float* scales, const float* biases, int group) : group(group) {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            const int output = product_row(threadIdx.x % 32 / 4, half);
            const bool is_there = output < OUTPUTS;
            scale[half] = ITEM_BYTES == 1 && is_there ? scales[output] : 1;
            bias[half] = is_there ? biases[output] : 0;
        }
    }

    __device__ float scaled(float sum, int half) const {
        return ITEM_BYTES == 1 ? fmaf(sum, scale[half], bias[half]) : sum + bias[half];
    }

    __device__ void put(const float (&sums)[SUMS], u32 stage) const {
        put_half(sums, stage, 0);
        put_half(sums, stage, 1);
        wait();
    }

    __device__ void put_half(const float (&sums)[SUMS], u32 stage, int half) const {
        const int output = product_row(threadIdx.x % 32 / 4, half);
        if (output >= OUTPUTS) return;
        const u32 row = stage + (output * STAGE_PITCH + threadIdx.x % 4 * 2) * 4;
#pragma unroll
        for (int i = 0; i < WIDTH / 8; ++i)
            write_pair(row + i * 32, scaled(sums[4 * i + 2 * half], half), scaled(sums[4 * i + 2 * half + 1], half));
    }

    __device__ void wait() const {
        block_wait(OF_GROUP + group, WARPGROUP);
    }
};
