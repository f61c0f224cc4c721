// A convolution between activations, with bias and activation; inputs of INPUT_BYTES, outputs of OUTPUT_BYTES each.
//
// Sums of e4m3 are multiplied by a scale before the bias.  What is written as e4m3 leaves remainders, and a layer from e4m3
// to e4m3 adds them to its sums: see kernels_protocol.py.  They lie as activations do, rows x width x REMAINING.

constexpr int REMAINING = 16;
constexpr bool ADDS_REMAINDERS = INPUT_BYTES == 1 && OUTPUT_BYTES == 1;

// Number `i` of the four in a word.  An fp32 with the same exponent and fraction is 2^-120 times as large, and exact; 127,
// which is no number, becomes one.
__device__ inline float of_e4m3(unsigned int word, int i) {
    return __int_as_float((int)(word << (24 - 8 * i)) >> 4 & 0x87f00000) * 0x1p120f;
}

// Numbers of e4m3, in words by rising address.
template <int WORDS> __device__ inline Words<WORDS> encoded(const float (&values)[4 * WORDS]) {
    Words<WORDS> made;
#pragma unroll
    for (int i = 0; i < WORDS; ++i)
        made.words[i] = two_e4m3(values[4 * i], values[4 * i + 1]) | two_e4m3(values[4 * i + 2], values[4 * i + 3]) << 16;
    return made;
}

// What becomes of the sums of a lane's neighbours.
template <int COUNT> struct Results : Neighbours<COUNT> {
    static constexpr int NUMBERS = 2 * COUNT, WORDS = COUNT / 2;  // `WORDS` of e4m3.
    using Numbers = float[NUMBERS];

    Numbers scales, biases, shares;
    bool remaining;  // Whether these channels have remainders.

    // `scales` and what is behind them lie in shared memory, for all channels.
    __device__ Results(const float* all_slopes, const float* all_biases, const float* all_scales, int out, int first, int q)
        : Neighbours<COUNT>(all_slopes + out, first, q), remaining(first == 0 && out + this->feature < REMAINING) {
        if constexpr (INPUT_BYTES == 1) {
            this->read(scales, all_scales + out);
            this->read(biases, all_biases + out);
            if (ADDS_REMAINDERS && remaining) this->read(shares, all_scales + CHANNELS_OUT + out);
        }
    }

    // `target` is where the first of them goes, `left` where its remainder does.
    __device__ void write(
        unsigned char* target, unsigned char* left, const float (&sums)[PRODUCTS][4], int at, const Words<WORDS>& added) const {
        Numbers values;
#pragma unroll
        for (int i = 0; i < NUMBERS; ++i) {
            values[i] = sums[this->first + i / 2][at + i % 2];
            if constexpr (INPUT_BYTES == 1) values[i] = fmaf(values[i], scales[i], biases[i]);
        }
        if (ADDS_REMAINDERS && remaining)
#pragma unroll
            for (int i = 0; i < NUMBERS; ++i) values[i] = fmaf(of_e4m3(added.words[i / 4], i % 4), shares[i], values[i]);
#pragma unroll
        for (int i = 0; i < NUMBERS; ++i) values[i] = activated(values[i], this->slopes[i]);
        if constexpr (OUTPUT_BYTES == 2) {
            this->write_halves(target, values);
        } else {
            const Words<WORDS> made = encoded<WORDS>(values);
            *(Words<WORDS>*)target = made;
            if (!remaining) return;
#pragma unroll
            for (int i = 0; i < NUMBERS; ++i) values[i] -= of_e4m3(made.words[i / 4], i % 4);
            *(Words<WORDS>*)left = encoded<WORDS>(values);
        }
    }
};

struct Activate {
    unsigned char* target;
    const unsigned char* added;
    unsigned char* left;
    const float *slopes, *biases, *scales;  // In shared memory.
    Geometry picture;

    __device__ void operator()(const Sums& sums, int x, int y, int out) const {
#pragma unroll
        for (int first = 0; first + 4 <= PRODUCTS; first += 4) write<4>(sums, x, y, out, first);
        if constexpr (PRODUCTS % 4 != 0) write<2>(sums, x, y, out, PRODUCTS / 4 * 4);
    }

    template <int COUNT> __device__ void write(const Sums& sums, int x, int y, int out, int first) const {
        const Results<COUNT> results(slopes, biases, scales, out, first, threadIdx.x % 4);
        const int g = threadIdx.x % 32 / 4, channel = out + results.feature;
        const long long corner = (long long)y * picture.width + x + g;
        Words<COUNT / 2> all_added[WARP_ROWS][2] = {};
        if (ADDS_REMAINDERS && results.remaining) {  // All are read before the first is wanted.
#pragma unroll
            for (int r = 0; r < WARP_ROWS; ++r)
#pragma unroll
                for (int side = 0; side < 2; ++side)
                    if (y + r < picture.end && x + g + 8 * side < picture.width)
                        all_added[r][side] = *(const Words<COUNT / 2>*)(added + pixel(corner, r, side) * REMAINING + channel);
        }
#pragma unroll
        for (int r = 0; r < WARP_ROWS; ++r) {
            if (y + r >= picture.end) break;
#pragma unroll
            for (int side = 0; side < 2; ++side) {
                if (x + g + 8 * side >= picture.width) continue;
                const long long at = pixel(corner, r, side);
                results.write(target + (at * CHANNELS_OUT + channel) * OUTPUT_BYTES, left + at * REMAINING + channel, sums[r],
                              2 * side, all_added[r][side]);
            }
        }
    }

    __device__ long long pixel(long long corner, int r, int side) const {
        return corner + (long long)r * picture.width + 8 * side;
    }
};

extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS) trunk(
    const void* __restrict__ source, unsigned char* __restrict__ target, const void* __restrict__ weights,
    const float* __restrict__ bias, const float* __restrict__ slope, const float* __restrict__ scale,
    const unsigned char* __restrict__ source_remainders, unsigned char* __restrict__ target_remainders, int height, int width,
    int begin, int end) {
    extern __shared__ __align__(128) unsigned char shared[];
    float *const slopes = (float*)(shared + SLOPE_AT), *const scales = (float*)(shared + SCALE_AT);
    for (int i = threadIdx.x; i < CHANNELS_OUT; i += THREADS) slopes[i] = slope[i];
    if constexpr (INPUT_BYTES == 1)
        for (int i = threadIdx.x; i < CHANNELS_OUT + REMAINING; i += THREADS) scales[i] = scale[i];
    const Geometry picture = {height, width, begin, end};
    convolve(shared, source, weights, bias, picture,
             Activate{target, source_remainders, target_remainders, slopes, (const float*)(shared + BIAS_AT), scales, picture});
}
