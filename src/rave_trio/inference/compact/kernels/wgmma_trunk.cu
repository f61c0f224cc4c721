// A 3x3 convolution between activations, its bias and its activation function, rounded.
// A product's rows are ROWS rows of outputs, its columns 128 pixels of each.
//
// With more than one of PARTS, every so many blocks compute the same OUTPUTS of all FEATURES.  With SHARES of 2 each
// warpgroup takes in one half of the input channels.
//
// What is written as e4m3 leaves remainders: of the first 16 channels what rounding took away, e4m3 too.  A layer from
// e4m3 to e4m3 adds each remainder to its own channel's sum, as if it came through the weight of the middle tap: so what
// a channel hands on nearly unchanged, which is most of a picture, is not rounded to 4 bits in every layer.  The 2 x 2
// remainders of a thread's two outputs and two pixels are a word, and words lie as threads hold them.
//
// Before this text, beside what wgmma_strip.cuh wants: FEATURES, SHARES, OUTPUT_BYTES of an output, OUTPUT_PIXEL bytes that
// a block's OUTPUTS take in shared memory, SHARED_BYTES that a block has.

constexpr int PARTS = FEATURES / OUTPUTS;
constexpr int STAGE_BYTES = ROWS * WIDTH * OUTPUT_PIXEL;
constexpr int FIRST_GROUP_BYTES = SHARES == 1 ? STAGE_BYTES : HAND_OVER_BYTES;
static_assert(FEATURES == SHARES * CHANNELS && FEATURES == PARTS * OUTPUTS, "all channels are taken in and put out");
static_assert(
    1024 + SHARES * (Ring::BYTES + Ring::BARRIER_BYTES) + FIRST_GROUP_BYTES + STAGE_BYTES <= SHARED_BYTES, "it fits");

// See load_weights.  In fp8 a thread's rows are neighbours, so that their results make one 16-bit unit.
__device__ inline int product_row(int i, int half) {
    return threadIdx.x % WARPGROUP / 32 * 16 + (OUTPUT_BYTES == 2 ? i + 8 * half : 2 * i + half);
}

constexpr bool ADDS_REMAINDERS = INPUT_BYTES == 1 && OUTPUT_BYTES == 1;
constexpr bool READS_AHEAD = PRODUCTS <= 27;  // what the weights leave of the registers holds a row's remainders
constexpr int REMAINING = 16;               // channels with remainders, of a warp
constexpr int REMAINDERS = WIDTH / 8 / 4;   // of a thread, four words each

static_assert(!ADDS_REMAINDERS || SHARES == 1, "the warpgroup that adds them is the one that multiplies");

struct alignas(16) FourWords {
    u32 words[4];
};

// Where a thread's remainders of its row of a unit lie, 32 apart; nothing for other channels and beyond the last row.
struct Remainders {
    FourWords* memory;
    int strips, last_row;

    __device__ FourWords* at(const Unit& unit, const Work& work) const {
        const int first_row = threadIdx.x % WARPGROUP / 32 * 16, y = unit.y(work) + first_row / OF_EACH_ROW;
        if (!memory || first_row % OF_EACH_ROW > 0 || y >= last_row) return nullptr;
        return memory + ((long long)y * strips + unit.strip) * (REMAINDERS * 32) + threadIdx.x % 32;
    }
};

// What happens to the sums of a thread's two rows.
struct Activation {
    float scale[2], bias[2], slope[2], share[2];

    __device__ void load(const float* scales, const float* biases, const float* slopes, int first_output) {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            const int output = product_row(threadIdx.x % 32 / 4, half) % OF_EACH_ROW, channel = first_output + output;
            const bool is_there = output < OUTPUTS;
            scale[half] = INPUT_BYTES == 1 && is_there ? scales[channel] : 1;
            bias[half] = is_there ? biases[channel] : 0;
            slope[half] = is_there ? slopes[channel] : 0;
            share[half] = ADDS_REMAINDERS && channel < REMAINING ? scales[FEATURES + channel] : 0;
        }
    }

    __device__ float operator()(float sum, int half) const {
        return bent(INPUT_BYTES == 1 ? fmaf(sum, scale[half], bias[half]) : sum + bias[half], half);
    }

    __device__ float with_remainder(float sum, int half, float remainder) const {
        return bent(fmaf(remainder, share[half], fmaf(sum, scale[half], bias[half])), half);
    }

    __device__ float bent(float x, int half) const {
        return x > 0 ? x : x * slope[half];
    }
};

// Rounds a unit's results and stores them, by the copy engine, which leaves out what lies beyond the picture.
struct StoreActivations {
    const TensorMap* output;
    const Work& work;
    const Activation& activation;
    int group, first_output;
    Remainders source, target;
    FourWords added[REMAINDERS];

    // Reads remainders before the products, behind which reading hides.
    __device__ void read_ahead(const Unit& unit) {
        if (!ADDS_REMAINDERS || !READS_AHEAD) return;
        const FourWords* const from = source.at(unit, work);
        if (!from) return;
#pragma unroll
        for (int i = 0; i < REMAINDERS; ++i) added[i] = from[32 * i];
    }

    __device__ void operator()(const float (&sums)[SUMS], const Unit& unit, u32 stage) const {
        // Asked once for all, so that what is done for some pixels need not wait for what is done for others.
        FourWords* const left = OUTPUT_BYTES == 1 ? target.at(unit, work) : nullptr;
        if (left)
            round_all<true>(sums, stage, source.at(unit, work), left);
        else
            round_all<false>(sums, stage, nullptr, nullptr);
        before_copy_engine();
        block_wait(OF_GROUP + group, WARPGROUP);
        if (threadIdx.x % WARPGROUP == 0) store_box(output, stage, first_output, unit.x(), unit.y(work));
    }

    template <bool HAS_REMAINDERS>
    __device__ void round_all(const float (&sums)[SUMS], u32 stage, const FourWords* from, FourWords* left) const {
        constexpr int CHUNKS = OUTPUT_BYTES;  // of 16 bytes, that a warp's 16 outputs take
        const int lane = threadIdx.x % 32, first_row = threadIdx.x % WARPGROUP / 32 * 16;
        const u32 row = stage + first_row / OF_EACH_ROW * WIDTH * OUTPUT_PIXEL;
        const int chunk = first_row % OF_EACH_ROW * OUTPUT_BYTES / 16 + lane / 8 % CHUNKS;
#pragma unroll
        for (int i = 0; i < WIDTH / 8; i += 4 / CHUNKS) {
            u32 matrices[4];
#if OUTPUT_BYTES == 1
            if constexpr (HAS_REMAINDERS) {
                FourWords had = {}, has;
                if (ADDS_REMAINDERS) had = READS_AHEAD ? added[i / 4] : from[32 * (i / 4)];
#pragma unroll
                for (int m = 0; m < 4; ++m) matrices[m] = round(sums, i + m, had.words[m], has.words[m]);
                left[32 * (i / 4)] = has;
            } else
#endif
#pragma unroll
                for (int m = 0; m < 4; ++m) matrices[m] = round(sums, i + m / CHUNKS, m % CHUNKS);
            const int pixel = 8 * (i + lane / 8 / CHUNKS) + lane % 8;
            store_transposed(row + swizzled(pixel * OUTPUT_PIXEL + chunk * 16, OUTPUT_PIXEL), matrices);
            // Registers that hold no row's remainders hold no second part of a row either.
            if (HAS_REMAINDERS && !READS_AHEAD) asm volatile("bar.warp.sync 0xffffffff;" ::: "memory");
        }
    }

    // The thread's share of an 8 x 8 matrix: of eight pixels from 8 * `eight` on, two.
    __device__ u32 round(const float (&sums)[SUMS], int eight, int chunk) const {
        const float* const four = sums + 4 * eight;
#if OUTPUT_BYTES == 2
        return two_halves(activation(four[2 * chunk], chunk), activation(four[2 * chunk + 1], chunk));
#else
        return four_e4m3(activation(four[0], 0), activation(four[2], 1), activation(four[1], 0), activation(four[3], 1));
#endif
    }

#if OUTPUT_BYTES == 1
    // The same with the remainders that were left to it, and those that it leaves.
    __device__ u32 round(const float (&sums)[SUMS], int eight, u32 added, u32& remaining) const {
        const float* const four = sums + 4 * eight;
        float x[4], rounded[4];
        if (ADDS_REMAINDERS) {
            float remainders[4];
            four_floats(added, remainders);
#pragma unroll
            for (int i = 0; i < 4; ++i)
                x[i] = activation.with_remainder(four[i % 2 * 2 + i / 2], i % 2, remainders[i]);
        } else {
#pragma unroll
            for (int i = 0; i < 4; ++i) x[i] = activation(four[i % 2 * 2 + i / 2], i % 2);
        }
        const u32 result = four_e4m3(x[0], x[1], x[2], x[3]);
        four_floats(result, rounded);
        remaining = four_e4m3(x[0] - rounded[0], x[1] - rounded[1], x[2] - rounded[2], x[3] - rounded[3]);
        return result;
    }
#endif
};

extern "C" __global__ void __launch_bounds__(THREADS, 1) KERNEL(
    const __grid_constant__ TensorMap input, const __grid_constant__ TensorMap output,
    const __grid_constant__ TensorMap weights, const float* __restrict__ bias, const float* __restrict__ slope,
    const float* __restrict__ scale, FourWords* source_remainders, FourWords* target_remainders, int last_row,
    int first_row, int units_down, int strips) {
    const Work work(first_row, units_down, strips, blockIdx.x / PARTS, gridDim.x / PARTS);
    const u32 memory = aligned_memory(), stages = memory + SHARES * Ring::BYTES;
    const u32 barriers = stages + FIRST_GROUP_BYTES + STAGE_BYTES;
    const int group = group_of_thread(), first_output = blockIdx.x % PARTS * OUTPUTS;
    const Ring rings[SHARES] = {
        {memory, barriers},
#if SHARES == 2
        {memory + Ring::BYTES, barriers + Ring::BARRIER_BYTES},
#endif
    };
    begin(rings, GROUPS / SHARES, input, weights);
    if (group == GROUPS) {
        give_up_registers<FETCHING_REGISTERS>();
        fetch(work, rings, &input, &weights, first_output);
    } else {
        take_registers<MULTIPLYING_REGISTERS>();
        const int share = SHARES == 1 ? 0 : group;
        const Ring ring{memory + share * Ring::BYTES, barriers + share * Ring::BARRIER_BYTES};
        Weights products;
        load_weights(products, ring, group, product_row);
        Activation activation;
        activation.load(scale, bias, slope, first_output);
        StoreActivations finish{&output, work, activation, group, first_output,
                                {first_output == 0 ? source_remainders : nullptr, strips, last_row},
                                {first_output == 0 ? target_remainders : nullptr, strips, last_row}};
        const u32 stage = stages + group * FIRST_GROUP_BYTES;
#if SHARES == 1
        work_through(work, ring, group, stage, products, finish);
#else
        work_through_shares(work, ring, group, stages, stage, products, finish);
#endif
    }
}
