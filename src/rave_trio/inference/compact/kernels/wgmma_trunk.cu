// A 3x3 convolution between activations, its bias and its activation function, rounded.
// A product's rows are ROWS rows of outputs, its columns 128 pixels of each.
//
// With more than one of PARTS, every so many blocks compute the same OUTPUTS of all FEATURES.  With SHARES of 2 each
// warpgroup takes in one half of the input channels.
//
// Beside e4m3 remainders are left: of every other one of the first 16 channels what rounding took away, e4m3 too.  Each is
// added to its own channel's sum in the next layer, as if it came through the weight of the middle tap: so what a channel
// hands on nearly unchanged, which is most of a picture, is not rounded to 4 bits in every layer.  They are of a thread's
// first output; those of two pixels and of two 8 pixels further are a word, and words lie as threads hold them.
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

constexpr int REMAINING_BEFORE = 16;        // are the channels with remainders, those with even numbers
constexpr int REMAINDERS = WIDTH / 8 / 8;   // of a thread, four words each

static_assert(ITEM_BYTES == 2 || SHARES == 1, "the warpgroup that adds them is the one that multiplies");

struct alignas(16) FourWords {
    u32 words[4];
};

// Where a thread's remainders of its row of a unit lie, 32 apart; nothing for other channels and beyond the last row.
struct Remainders {
    FourWords* memory;
    int strips, last_row;
    int row = threadIdx.x % WARPGROUP / 32 * 16 / OF_EACH_ROW;
    bool are_there = memory && threadIdx.x % WARPGROUP / 32 * 16 % OF_EACH_ROW == 0;

    __device__ FourWords* at(const Unit& unit, const Work& work) const {
        const int y = unit.y(work) + row;
        if (!are_there || y >= last_row) return nullptr;
        return memory + ((u32)(y * strips + unit.strip) * (REMAINDERS * 32) + threadIdx.x % 32);
    }
};

// What happens to the sums of a thread's two rows.
struct Activation {
    float scale[2], bias[2], slope[2];
    Pair slopes[2], share;  // The same slopes, and what the first row's remainders are multiplied by.

    __device__ void load(const float* scales, const float* biases, const float* all_slopes, int first_output) {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            const int output = product_row(threadIdx.x % 32 / 4, half) % OF_EACH_ROW, channel = first_output + output;
            const bool is_there = output < OUTPUTS;
            scale[half] = ITEM_BYTES == 1 && is_there ? scales[channel] : 1;
            bias[half] = is_there ? biases[channel] : 0;
            slope[half] = is_there ? all_slopes[channel] : 0;
            slopes[half] = limited_pair(slope[half], slope[half]);
            if (half > 0) continue;
            const float own = ITEM_BYTES == 1 && channel < REMAINING_BEFORE ? scales[FEATURES + channel / 2] : 0;
            share = limited_pair(own, own);
        }
    }

    __device__ float scaled(float sum, int half) const {
        return ITEM_BYTES == 1 ? fmaf(sum, scale[half], bias[half]) : sum + bias[half];
    }

    __device__ float operator()(float sum, int half) const {
        const float x = scaled(sum, half);
        return x > 0 ? x : x * slope[half];
    }

    // Two neighbours in e4m3, before they are bent.
    __device__ Pair pair(const float* sums, int half) const {
        return limited_pair(scaled(sums[0], half), scaled(sums[1], half));
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
        const FourWords* const from = ITEM_BYTES == 1 ? source.at(unit, work) : nullptr;
        if (!from) return;
#pragma unroll
        for (int i = 0; i < REMAINDERS; ++i) added[i] = from[32 * i];
    }

    __device__ void operator()(const float (&sums)[SUMS], const Unit& unit, u32 stage) const {
        // Asked once for all, so that what is done for some pixels need not wait for what is done for others.
        FourWords* const left = OUTPUT_BYTES == 1 ? target.at(unit, work) : nullptr;
        if (left)
            round_all<true>(sums, stage, left);
        else
            round_all<false>(sums, stage, nullptr);
        before_copy_engine();
        block_wait(OF_GROUP + group, WARPGROUP);
        if (is_steward()) store_box(output, stage, first_output, unit.x(), unit.y(work));
    }

    template <bool HAS_REMAINDERS>
    __device__ void round_all(const float (&sums)[SUMS], u32 stage, FourWords* left) const {
        constexpr int CHUNKS = OUTPUT_BYTES;  // of 16 bytes, that a warp's 16 outputs take
        const int lane = threadIdx.x % 32, first_row = threadIdx.x % WARPGROUP / 32 * 16;
        const u32 row = stage + first_row / OF_EACH_ROW * WIDTH * OUTPUT_PIXEL;
        const int chunk = first_row % OF_EACH_ROW * OUTPUT_BYTES / 16 + lane / 8 % CHUNKS;
        const int pixel = 8 * (lane / 8 / CHUNKS) + lane % 8;  // of the first ones; eight further the swizzle is the same
        const u32 place = row + swizzled(pixel * OUTPUT_PIXEL + chunk * 16, OUTPUT_PIXEL);
#if OUTPUT_BYTES == 1
        FourWords has = {};
#endif
#pragma unroll
        for (int i = 0; i < WIDTH / 8; i += 4 / CHUNKS) {
            u32 matrices[4];
#if OUTPUT_BYTES == 2
#pragma unroll
            for (int m = 0; m < 4; ++m) matrices[m] = round(sums + 4 * (i + m / CHUNKS) + 2 * (m % CHUNKS), m % CHUNKS);
#else
#pragma unroll
            for (int m = 0; m < 4; m += 2) {
                u32* const word = HAS_REMAINDERS ? &has.words[(i + m) / 2 % 4] : nullptr;
                round<HAS_REMAINDERS>(sums + 4 * (i + m), added[(i + m) / 8].words[(i + m) / 2 % 4], word, matrices + m);
            }
            if (HAS_REMAINDERS && i % 8 == 4) left[32 * (i / 8)] = has;
#endif
            store_transposed(place + 8 * i * OUTPUT_PIXEL, matrices);
        }
    }

#if OUTPUT_BYTES == 2
    // The thread's share of an 8 x 8 matrix: two pixels.
    __device__ u32 round(const float* sums, int half) const {
        return two_halves(activation(sums[0], half), activation(sums[1], half));
    }
#else
    // The thread's share of two such matrices, of 16 pixels: two pixels of each, both rows.  With the remainders that were
    // left to the first row, and those that it leaves.
    template <bool HAS_REMAINDERS>
    __device__ void round(const float* sums, u32 had, u32* remaining, u32* results) const {
        Pair first[2], second[2], others[2];
#pragma unroll
        for (int i = 0; i < 2; ++i) {
            first[i] = activation.pair(sums + 4 * i, 0);
            second[i] = bent(activation.pair(sums + 4 * i + 2, 1), activation.slopes[1]);
        }
        constexpr bool ADDS = HAS_REMAINDERS && ITEM_BYTES == 1;
        if (ADDS) from_e4m3(had, others);
#pragma unroll
        for (int i = 0; i < 2; ++i) {
            if (ADDS) first[i] = pair_fma(others[i], activation.share, first[i]);
            first[i] = bent(first[i], activation.slopes[0]);
        }
        const u32 rounded = to_e4m3(first[0], first[1]), below = to_e4m3(second[0], second[1]);
        results[0] = __byte_perm(rounded, below, 0x5140);
        results[1] = __byte_perm(rounded, below, 0x7362);
        if (!HAS_REMAINDERS) return;
        from_e4m3(rounded, others);
#pragma unroll
        for (int i = 0; i < 2; ++i) first[i] = pair_minus(first[i], others[i]);
        *remaining = to_e4m3(first[0], first[1]);
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
