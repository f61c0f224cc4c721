// A 3x3 convolution between activations, its bias and its activation function, rounded.
// A product's rows are ROWS rows of outputs, its columns 128 pixels of each.
//
// With SHARES of 2 there are twice as many channels: each warpgroup takes in one half of them, and every other block
// computes the same half of the outputs.
//
// Before this text, beside what wgmma_strip.cuh wants: SHARES, SHARED_BYTES that a block has.

constexpr int STAGE_BYTES = ROWS * WIDTH * PIXEL_BYTES;
constexpr int FEATURES = SHARES * CHANNELS;
constexpr int FIRST_GROUP_BYTES = SHARES == 1 ? STAGE_BYTES : HAND_OVER_BYTES;
static_assert(SUMS / ROWS >= CHANNELS, "a product holds all outputs of its rows");
static_assert(
    1024 + SHARES * (Ring::BYTES + Ring::BARRIER_BYTES) + FIRST_GROUP_BYTES + STAGE_BYTES <= SHARED_BYTES, "it fits");

// A thread's two rows of the product.  In fp8 they are neighbours, so that their results make one 16-bit unit.
__device__ inline int product_row(int half) {
    const int warp = threadIdx.x % WARPGROUP / 32, lane = threadIdx.x % 32;
    return warp * 16 + (ELEMENT_BYTES == 2 ? lane / 4 + 8 * half : lane / 4 * 2 + half);
}

// What happens to a thread's sums.
struct Activation {
    float scale[2], bias[2], slope[2];

    __device__ float operator()(float sum, int half) const {
        const float x = ELEMENT_BYTES == 2 ? sum + bias[half] : fmaf(sum, scale[half], bias[half]);
        return x > 0 ? x : x * slope[half];
    }
};

// Rounds a unit's results and stores them, by the copy engine, which leaves out what lies beyond the picture.
struct StoreActivations {
    const TensorMap* output;
    const Work& work;
    const Activation& activation;
    int group, channel;

    __device__ void operator()(const float (&sums)[SUMS], const Unit& unit, u32 stage) const {
        const int warp = threadIdx.x % WARPGROUP / 32, lane = threadIdx.x % 32;
        constexpr int OF_EACH_ROW = SUMS / ROWS;
        const u32 row = stage + warp * 16 / OF_EACH_ROW * WIDTH * PIXEL_BYTES;
        const int chunk = warp * 16 % OF_EACH_ROW * ELEMENT_BYTES / 16;
        constexpr int CHUNKS = ELEMENT_BYTES;  // of 16 bytes, that a warp's 16 outputs take
#pragma unroll
        for (int i = 0; i < WIDTH / 8; i += 4 / CHUNKS) {
            u32 matrices[4];
#pragma unroll
            for (int m = 0; m < 4; ++m) matrices[m] = round(sums, i + m / CHUNKS, m % CHUNKS);
            const int pixel = 8 * (i + lane / 8 / CHUNKS) + lane % 8;
            store_transposed(
                row + swizzled(pixel * PIXEL_BYTES + (chunk + lane / 8 % CHUNKS) * 16, PIXEL_BYTES), matrices);
        }
        show_to_copy_engine();
        block_wait(OF_GROUP + group, WARPGROUP);
        if (threadIdx.x % WARPGROUP == 0) store_box(output, stage, channel, unit.x(), unit.y(work));
    }

    // Of eight pixels, the results that are the thread's share of an 8 x 8 matrix.
    __device__ u32 round(const float (&sums)[SUMS], int pixels, int chunk) const {
        const float* const four = sums + 4 * pixels;
#if ELEMENT_BYTES == 2
        return two_halves(activation(four[2 * chunk], chunk), activation(four[2 * chunk + 1], chunk));
#else
        return two_e4m3(activation(four[0], 0), activation(four[2], 1)) |
               (u32)two_e4m3(activation(four[1], 0), activation(four[3], 1)) << 16;
#endif
    }
};

extern "C" __global__ void __launch_bounds__(THREADS, 1) KERNEL(
    const __grid_constant__ TensorMap input, const __grid_constant__ TensorMap output,
    const unsigned char* __restrict__ weights, const float* __restrict__ bias, const float* __restrict__ slope,
    const float* __restrict__ scale, int first_row, int units_down, int strips) {
    const Work work(first_row, units_down, strips, blockIdx.x / SHARES, gridDim.x / SHARES);
    const u32 memory = aligned_memory(), stages = memory + SHARES * Ring::BYTES;
    const u32 barriers = stages + FIRST_GROUP_BYTES + STAGE_BYTES;
    const int group = group_of_thread(), first_output = blockIdx.x % SHARES * CHANNELS;
    const Ring rings[SHARES] = {
        {memory, barriers},
#if SHARES == 2
        {memory + Ring::BYTES, barriers + Ring::BARRIER_BYTES},
#endif
    };
    begin(rings, GROUPS / SHARES, input);
    if (group == GROUPS) {
        give_up_registers<FETCHING_REGISTERS>();
        fetch(work, rings, &input);
    } else {
        take_registers<MULTIPLYING_REGISTERS>();
        Weights products;
        const int first_input = SHARES == 1 ? 0 : group * CHANNELS;
        load_weights(
            products, weights + (first_output * FEATURES + first_input) * ELEMENT_BYTES, FEATURES, FEATURES, CHANNELS,
            product_row);
        Activation activation;
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            const int output_of_block = product_row(half) % (SUMS / ROWS);
            const bool is_there = output_of_block < CHANNELS;
            activation.bias[half] = is_there ? bias[first_output + output_of_block] : 0;
            activation.slope[half] = is_there ? slope[first_output + output_of_block] : 0;
            activation.scale[half] = is_there && ELEMENT_BYTES == 1 ? scale[first_output + output_of_block] : 0;
        }
        const StoreActivations finish{&output, work, activation, group, first_output};
        const u32 stage = stages + group * FIRST_GROUP_BYTES;
#if SHARES == 1
        work_through(work, rings[0], group, stage, products, finish);
#else
        const Ring ring(memory + group * Ring::BYTES, barriers + group * Ring::BARRIER_BYTES);
        work_through_shares(work, ring, group, stages, stage, products, finish);
#endif
    }
}
