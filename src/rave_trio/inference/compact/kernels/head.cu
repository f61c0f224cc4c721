// The first convolution, of a planar picture of three colours into activations, with bias and activation.
//
// A block holds the colours of a tile and its margin in shared memory; a warp computes 16 pixels of each row, as a
// product with the weights, which it keeps: depth 3 * tap + c, 27 of 32.

constexpr int WARPS = 4, THREADS = 32 * WARPS;
constexpr int TILE_X = 16 * WARPS, TILE_Y = 16;
constexpr int BLOCKS = 4;  // On a multiprocessor.
constexpr int ROW = TILE_X + 2, ROWS = TILE_Y + 2;
constexpr int DEPTH = 32, USED_DEPTH = 27;
constexpr int GROUP = FEATURES <= 64 ? FEATURES : FEATURES / 2;  // Features at a time: what registers hold.
constexpr int PRODUCTS = GROUP / 8;

// Of 16 pixels a lane's two: x, at `pixel`, and the one 8 further on.
template <int COUNT>
__device__ inline void write(
    Half* pixel, int x, int width, const float (&sums)[PRODUCTS][4], const Neighbours<COUNT>& neighbours) {
    if (x < width) neighbours.write(pixel, sums, 0);
    if (x + 8 < width) neighbours.write(pixel + 8 * FEATURES, sums, 2);
}

extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS) head(
    const Half* __restrict__ picture, long long plane, Half* __restrict__ target, const Half* __restrict__ weights,
    const float* __restrict__ bias, const float* __restrict__ slope, int height, int width, int begin, int end) {
    __shared__ Half samples[COLOURS * ROWS * ROW];
    __shared__ __align__(16) float biases[FEATURES], slopes[FEATURES];
    const int left = blockIdx.x * TILE_X, top = begin + blockIdx.y * TILE_Y;
    for (int i = threadIdx.x; i < FEATURES; i += THREADS) {
        biases[i] = bias[i];
        slopes[i] = slope[i];
    }
    // All are read before the first is written, so that they are under way together.
    constexpr int SHARE = (COLOURS * ROWS * ROW + THREADS - 1) / THREADS;
    Half own[SHARE];
#pragma unroll
    for (int n = 0; n < SHARE; ++n) {
        const int i = threadIdx.x + n * THREADS;
        const int x = left - 1 + i % ROW, y = top - 1 + i / ROW % ROWS;
        const bool there = i < COLOURS * ROWS * ROW && x >= 0 && x < width && y >= 0 && y < height;
        own[n] = there ? input_value(picture, plane, width, i / (ROW * ROWS), y, x) : Half{0};
    }
#pragma unroll
    for (int n = 0; n < SHARE; ++n)
        if (threadIdx.x + n * THREADS < COLOURS * ROWS * ROW) samples[threadIdx.x + n * THREADS] = own[n];
    __syncthreads();

    const int lane = threadIdx.x % 32, g = lane / 4, q = lane % 4;
    const int x = threadIdx.x / 32 * 16, height_here = min(TILE_Y, end - top);
    if (left + x >= width) return;
    // Where the samples of a lane's depths lie: 16 s + 8 h + 2 q + e.  Those not used have weights of zero.
    int places[2][2][2];
#pragma unroll
    for (int i = 0; i < 8; ++i) {
        const int depth = min(i / 4 * 16 + i / 2 % 2 * 8 + 2 * q + i % 2, USED_DEPTH - 1);
        const int tap = depth / COLOURS, c = depth % COLOURS;
        places[i / 4][i / 2 % 2][i % 2] = (c * ROWS + tap / 3) * ROW + tap % 3;
    }
#pragma unroll 1
    for (int group = 0; group < FEATURES; group += GROUP) {
        unsigned int columns[PRODUCTS][2][2];
#pragma unroll
        for (int p = 0; p < PRODUCTS; ++p) {
            const Half* const column = weights + (group + feature_of<GROUP>(8 * p + g)) * DEPTH;
#pragma unroll
            for (int i = 0; i < 4; ++i)
                columns[p][i / 2][i % 2] = *(const unsigned int*)(column + i / 2 * 16 + i % 2 * 8 + 2 * q);
        }
        const Half* corner = samples + x + g;
        Half* pixel = target + ((long long)top * width + left + x + g) * FEATURES + group;
#pragma unroll 1
        for (int y = 0; y < height_here; ++y) {
            float sums[PRODUCTS][4];
#pragma unroll
            for (int p = 0; p < PRODUCTS; ++p) {
                // Read for each row: registers do not hold them beside all else.
                const volatile float* const start = biases + group + feature_of<GROUP>(8 * p + 2 * q);
                sums[p][0] = sums[p][2] = start[0];
                sums[p][1] = sums[p][3] = start[1];
            }
#pragma unroll
            for (int s = 0; s < 2; ++s) {
                unsigned int pixels[4];
#pragma unroll
                for (int i = 0; i < 4; ++i) {
                    const Half* const from = corner + i % 2 * 8;
                    pixels[i] = from[places[s][i / 2][0]].bits | (unsigned int)from[places[s][i / 2][1]].bits << 16;
                }
#pragma unroll
                for (int p = 0; p < PRODUCTS; ++p) multiply_add(sums[p], pixels, columns[p][s][0], columns[p][s][1]);
            }
#pragma unroll
            for (int first = 0; first + 4 <= PRODUCTS; first += 4)
                write(pixel, left + x + g, width, sums, Neighbours<4>(slopes + group, first, q));
            if constexpr (PRODUCTS % 4 != 0)
                write(pixel, left + x + g, width, sums, Neighbours<2>(slopes + group, PRODUCTS / 4 * 4, q));
            corner += ROW;
            pixel += (long long)width * FEATURES;
        }
    }
}
