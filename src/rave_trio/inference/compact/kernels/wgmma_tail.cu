// The last 3x3 convolution, its bias and the pixel shuffle, into a planar picture; with the picture itself added, enlarged
// by nearest neighbour, and clipped, where that is asked for.
// A product's rows are the outputs, (plane * FACTOR + row) * FACTOR + column of a pixel's block.
//
// Before this text, beside what wgmma_strip.cuh wants: FACTOR, SKIP, CLIP, SHARED_BYTES that a
// block has.

constexpr int PLANES = 3;
constexpr int STAGE_PITCH = WIDTH + 8;  // floats, so that rows that are written together lie in different banks
constexpr int STAGE_BYTES = OUTPUTS * STAGE_PITCH * 4;
static_assert(ROWS == 1 && PLANES * FACTOR * FACTOR <= OUTPUTS, "a product holds all outputs");
static_assert(1024 + Ring::BYTES + GROUPS * STAGE_BYTES + Ring::BARRIER_BYTES <= SHARED_BYTES, "it fits");

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

// FACTOR neighbours; IS_WHOLE if their address is a multiple of what they take, a power of two.
template <bool IS_WHOLE>
__device__ inline void write_samples(u16* samples, const float (&values)[FACTOR]) {
    u32 packed[(FACTOR + 1) / 2];
#pragma unroll
    for (int i = 0; i < FACTOR; i += 2)
        packed[i / 2] = two_halves(values[i], i + 1 < FACTOR ? values[i + 1] : 0);
    if constexpr (IS_WHOLE && FACTOR == 4) {
        asm volatile("st.global.v2.b32 [%0], {%1, %2};" ::"l"(samples), "r"(packed[0]), "r"(packed[1]) : "memory");
    } else if constexpr (IS_WHOLE && FACTOR == 2) {
        *(u32*)samples = packed[0];
    } else {
#pragma unroll
        for (int i = 0; i < FACTOR; ++i) samples[i] = (u16)(packed[i / 2] >> i % 2 * 16);
    }
}

// See load_weights.
__device__ inline int product_row(int i, int half) {
    return threadIdx.x % WARPGROUP / 32 * 16 + i + 8 * half;
}

// Sums go through shared memory, so that each thread has all outputs of one pixel.
struct StorePicture {
    Planes picture, target;
    const Work& work;
    float bias[2];
    int group, width;

    __device__ void operator()(const float (&sums)[SUMS], const Unit& unit, u32 stage) const {
        const int pixel = threadIdx.x % WARPGROUP, x = unit.x() + pixel, y = unit.y(work);
        float skips[PLANES];
#pragma unroll
        for (int plane = 0; plane < PLANES; ++plane)
            skips[plane] = SKIP && x < width
                ? read_sample(picture.samples + plane * picture.plane + (long long)y * width + x) : 0;
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            const int output = product_row(threadIdx.x % 32 / 4, half);
            if (output >= OUTPUTS) continue;
            const u32 row = stage + (output * STAGE_PITCH + threadIdx.x % 4 * 2) * 4;
#pragma unroll
            for (int i = 0; i < WIDTH / 8; ++i)
                asm volatile("st.shared.v2.f32 [%0], {%1, %2};" ::"r"(row + i * 32),
                             "f"(sums[4 * i + 2 * half] + bias[half]), "f"(sums[4 * i + 2 * half + 1] + bias[half])
                             : "memory");
        }
        block_wait(OF_GROUP + group, WARPGROUP);
        if (x >= width) return;
        if (((u64)target.samples / 2 | (u64)target.plane) % FACTOR == 0)
            write_pixel<true>(stage + pixel * 4, x, y, skips);
        else
            write_pixel<false>(stage + pixel * 4, x, y, skips);
    }

    template <bool IS_WHOLE>
    __device__ void write_pixel(u32 stage, int x, int y, const float (&skips)[PLANES]) const {
#pragma unroll
        for (int plane = 0; plane < PLANES; ++plane) {
            u16* row = target.samples + plane * target.plane + ((long long)y * FACTOR * width + x) * FACTOR;
#pragma unroll
            for (int i = 0; i < FACTOR; ++i, row += width * FACTOR) {
                float values[FACTOR];
#pragma unroll
                for (int j = 0; j < FACTOR; ++j) {
                    const int output = (plane * FACTOR + i) * FACTOR + j;
                    float sum;
                    asm volatile("ld.shared.f32 %0, [%1];" : "=f"(sum) : "r"(stage + output * STAGE_PITCH * 4));
                    if (SKIP) sum += skips[plane];
                    values[j] = CLIP ? __saturatef(sum) : sum;
                }
                write_samples<IS_WHOLE>(row, values);
            }
        }
    }
};

extern "C" __global__ void __launch_bounds__(THREADS, 1) KERNEL(
    const __grid_constant__ TensorMap input, const __grid_constant__ TensorMap weights,
    const float* __restrict__ bias, u16* picture, long long picture_plane, u16* target, long long target_plane,
    int width, int first_row, int units_down, int strips) {
    const Work work(first_row, units_down, strips, blockIdx.x, gridDim.x);
    const u32 memory = aligned_memory(), stages = memory + Ring::BYTES;
    const Ring rings[1] = {{memory, stages + GROUPS * STAGE_BYTES}};
    const int group = group_of_thread();
    begin(rings, GROUPS, input, weights);
    if (group == GROUPS) {
        give_up_registers<FETCHING_REGISTERS>();
        fetch(work, rings, &input, &weights, 0);
    } else {
        take_registers<MULTIPLYING_REGISTERS>();
        Weights products;
        load_weights(products, rings[0], group, product_row);
        StorePicture finish{{picture, picture_plane}, {target, target_plane}, work, {}, group, width};
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            const int output = product_row(threadIdx.x % 32 / 4, half);
            finish.bias[half] = output < OUTPUTS ? bias[output] : 0;
        }
        work_through(work, rings[0], group, stages + group * STAGE_BYTES, products, finish);
    }
}
