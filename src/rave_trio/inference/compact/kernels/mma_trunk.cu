// A convolution between activations, with bias and activation.

struct Activate {
    Half* target;
    const float* slopes;
    Geometry picture;

    __device__ void operator()(const Sums& sums, int x, int y, int out) const {
        const int q = threadIdx.x % 4;
#pragma unroll
        for (int first = 0; first + 4 <= PRODUCTS; first += 4) write(sums, x, y, out, Neighbours<4>(slopes + out, first, q));
        if constexpr (PRODUCTS % 4 != 0) write(sums, x, y, out, Neighbours<2>(slopes + out, PRODUCTS / 4 * 4, q));
    }

    template <int COUNT>
    __device__ void write(const Sums& sums, int x, int y, int out, const Neighbours<COUNT>& neighbours) const {
        const int g = threadIdx.x % 32 / 4;
        Half* const pixel = target + ((long long)y * picture.width + x + g) * CHANNELS_OUT + out;
#pragma unroll
        for (int r = 0; r < WARP_ROWS; ++r) {
            if (y + r >= picture.end) break;
            Half* const own = pixel + (long long)r * picture.width * CHANNELS_OUT;
            if (x + g < picture.width) neighbours.write(own, sums[r], 0);
            if (x + g + 8 < picture.width) neighbours.write(own + 8 * CHANNELS_OUT, sums[r], 2);
        }
    }
};

extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS) trunk(
    const Half* __restrict__ source, Half* __restrict__ target, const Half* __restrict__ weights,
    const float* __restrict__ bias, const float* __restrict__ slope, int height, int width, int begin, int end) {
    extern __shared__ __align__(128) unsigned char shared[];
    float* const slopes = (float*)(shared + SLOPE_AT);
    for (int i = threadIdx.x; i < CHANNELS_OUT; i += THREADS) slopes[i] = slope[i];
    const Geometry picture = {height, width, begin, end};
    convolve(shared, source, weights, bias, picture, Activate{target, slopes, picture});
}
