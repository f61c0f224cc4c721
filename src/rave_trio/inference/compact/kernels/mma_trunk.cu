// A convolution between activations, with bias and activation; inputs of INPUT_BYTES, outputs of OUTPUT_BYTES each.
//
// Sums of e4m3 are multiplied by a scale before the bias.  Beside e4m3 remainders are left where there is memory for them,
// and those of inputs are added: see kernels_protocol.py.

struct Activate {
    unsigned char* target;
    const unsigned char* added;
    unsigned char* left;
    const float *slopes, *biases, *scales;  // In shared memory, for all channels; behind the scales the remainders' own.
    Geometry picture;

    __device__ void operator()(const Sums& sums, int x, int y, int out) const {
        if (x >= picture.width) return;
#pragma unroll
        for (int first = 0; first + 4 <= PRODUCTS; first += 4) write<4>(sums, x, y, out, first);
        if constexpr (PRODUCTS % 4 != 0) write<2>(sums, x, y, out, PRODUCTS / 4 * 4);
    }

    // What a lane has of products `first` to `first` + COUNT.
    template <int COUNT> __device__ void write(const Sums& sums, int x, int y, int out, int first) const {
        const Neighbours<COUNT> neighbours(slopes + out, first, threadIdx.x % 4);
        const int g = threadIdx.x % 32 / 4;
        unsigned char* const corner = target + (((long long)y * picture.width + x + g) * CHANNELS_OUT + out) * OUTPUT_BYTES;
        if constexpr (OUTPUT_BYTES == 2)
            write_halves(sums, x + g, y, corner, neighbours);
        else
            write_e4m3(sums, x, y, out, corner, neighbours);
    }

    __device__ unsigned char* pixel(unsigned char* corner, int r, int side) const {
        return corner + ((long long)r * picture.width + 8 * side) * (CHANNELS_OUT * OUTPUT_BYTES);
    }

    template <int COUNT>
    __device__ void write_halves(
        const Sums& sums, int x, int y, unsigned char* corner, const Neighbours<COUNT>& neighbours) const {
#pragma unroll
        for (int r = 0; r < WARP_ROWS; ++r) {
            if (y + r >= picture.end) break;
#pragma unroll
            for (int side = 0; side < 2; ++side)
                if (x + 8 * side < picture.width) neighbours.write((Half*)pixel(corner, r, side), sums[r], 2 * side);
        }
    }

    template <int COUNT>
    __device__ void write_e4m3(
        const Sums& sums, int x, int y, int out, unsigned char* corner, const Neighbours<COUNT>& neighbours) const {
        const int g = threadIdx.x % 32 / 4;
        const bool remaining = left && out == 0 && neighbours.first == 0;  // The same for all lanes.
        Remainders<COUNT> remainders(neighbours.feature);
        constexpr bool SCALED = INPUT_BYTES == 1;
        float own_scales[2 * COUNT], own_biases[2 * COUNT], shares[COUNT] = {};
        Pair own_slopes[COUNT];
#pragma unroll
        for (int i = 0; i < COUNT; ++i) own_slopes[i] = limited_pair(neighbours.slopes[2 * i], neighbours.slopes[2 * i + 1]);
        if (SCALED) {
            neighbours.read(own_scales, scales + out);
            neighbours.read(own_biases, biases + out);
        }
        Words<COUNT / 2> found[WARP_ROWS] = {};
        if (SCALED && remaining) {  // All are read before the first is wanted.
#pragma unroll
            for (int i = 0; i < COUNT; ++i)
                if (remainders.there) shares[i] = scales[CHANNELS_OUT + neighbours.feature / 2 + i];
#pragma unroll
            for (int r = 0; r < WARP_ROWS; ++r)
                if (y + r < picture.end) found[r] = remainders.read(remainders_of_run(added, picture.width, y + r, x));
        }
#pragma unroll
        for (int r = 0; r < WARP_ROWS; ++r) {
            if (y + r >= picture.end) break;
            Pair results[2][COUNT];
            if (SCALED && remaining) remainders.take(found[r]);
#pragma unroll
            for (int side = 0; side < 2; ++side) {
                float values[2 * COUNT];
#pragma unroll
                for (int i = 0; i < 2 * COUNT; ++i) {
                    values[i] = sums[r][neighbours.first + i / 2][2 * side + i % 2];
                    if (SCALED) values[i] = fmaf(values[i], own_scales[i], own_biases[i]);
                    if (SCALED && remaining && i % 2 == 0)
                        values[i] = fmaf(remainders(i / 2, side), shares[i / 2], values[i]);
                }
#pragma unroll
                for (int i = 0; i < COUNT; ++i) results[side][i] = limited_pair(values[2 * i], values[2 * i + 1]);
                const Words<COUNT / 2> made = rounded<COUNT>(results[side], own_slopes);
                if (x + g + 8 * side < picture.width)
                    *(Words<COUNT / 2>*)(pixel(corner, r, side) + neighbours.feature) = made;
            }
            if (remaining) remainders.write(remainders_of_run(left, picture.width, y + r, x), results);
        }
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
