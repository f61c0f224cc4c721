// The last convolution and the pixel shuffle: output c * FACTOR^2 + i * FACTOR + j of a pixel is sample (i, j) of its
// block in plane c.  A warp gathers one row of its pixels' samples in shared memory, to write runs of them.  Sums of e4m3 are
// multiplied by a scale before the bias.

constexpr int OUTPUTS = COLOURS * FACTOR * FACTOR;
constexpr int RUN = 16 * FACTOR, LINES = COLOURS * FACTOR;  // FACTOR lines of each plane.
static_assert(WARPS_OUT == 1, "a warp has all outputs of a pixel");

struct Shuffle {
    const Half* picture;
    long long picture_plane;
    Half* target;
    long long target_plane;
    Half* samples;  // The warp's own, LINES x RUN.
    const float *scales, *biases;  // In shared memory.
    Geometry size;
    bool aligned;

    __device__ void operator()(const Sums& sums, int x, int y, int) const {
        const int lane = threadIdx.x % 32;
#pragma unroll
        for (int r = 0; r < WARP_ROWS; ++r) {
            if (y + r >= size.end || x >= size.width) break;
            gather(sums[r], x, y + r, lane);
            __syncwarp();
            write(x, y + r, lane);
            __syncwarp();
        }
    }

    __device__ void gather(const float (&sums)[PRODUCTS][4], int x, int y, int lane) const {
        const int g = lane / 4, q = lane % 4;
        float skip[2][COLOURS] = {};
        if constexpr (SKIP) {
#pragma unroll
            for (int side = 0; side < 2; ++side)
#pragma unroll
                for (int c = 0; c < COLOURS; ++c)
                    skip[side][c] = to_float(
                        input_value(picture, picture_plane, size.width, c, y, min(x + g + 8 * side, size.width - 1)));
        }
#pragma unroll
        for (int p = 0; p < PRODUCTS; ++p) {
            float2 own_scales, own_biases;
            if constexpr (INPUT_BYTES == 1) {
                own_scales = *(const float2*)(scales + 8 * p + 2 * q);
                own_biases = *(const float2*)(biases + 8 * p + 2 * q);
            }
#pragma unroll
            for (int e = 0; e < 2; ++e) {
                const int output = 8 * p + 2 * q + e;
                if (output >= OUTPUTS) continue;
                Half* const place = samples + output / FACTOR * RUN + output % FACTOR;
#pragma unroll
                for (int side = 0; side < 2; ++side) {
                    const float (&own)[COLOURS] = skip[side];
                    const float added = output < FACTOR * FACTOR ? own[0] : output < 2 * FACTOR * FACTOR ? own[1] : own[2];
                    float sum = sums[p][e + 2 * side];
                    if constexpr (INPUT_BYTES == 1)
                        sum = fmaf(sum, e == 0 ? own_scales.x : own_scales.y, e == 0 ? own_biases.x : own_biases.y);
                    place[(g + 8 * side) * FACTOR] = output_value<CLIP>(sum + added);
                }
            }
        }
    }

    __device__ void write(int x, int y, int lane) const {
        const int count = min(16, size.width - x) * FACTOR;
        const long long pitch = (long long)size.width * FACTOR;
        constexpr int PIECE = 8;
        if (aligned) {
#pragma unroll
            for (int i = lane; i < LINES * RUN / PIECE; i += 32) {
                const int line = i / (RUN / PIECE), at = i % (RUN / PIECE) * PIECE;
                if (at < count)
                    *(uint4*)line_of(line, x, y, pitch, at) = *(const uint4*)(samples + line * RUN + at);
            }
        } else {
#pragma unroll 1
            for (int i = lane; i < LINES * RUN; i += 32) {
                const int line = i / RUN, at = i % RUN;
                if (at < count) *line_of(line, x, y, pitch, at) = samples[i];
            }
        }
    }

    __device__ Half* line_of(int line, int x, int y, long long pitch, int at) const {
        return target + line / FACTOR * target_plane + ((long long)y * FACTOR + line % FACTOR) * pitch +
               (long long)x * FACTOR + at;
    }
};

extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS) tail(
    const void* __restrict__ source, const Half* __restrict__ picture, long long picture_plane,
    Half* __restrict__ target, long long target_plane, const void* __restrict__ weights,
    const float* __restrict__ bias, const float* __restrict__ scale, int height, int width, int begin, int end) {
    extern __shared__ __align__(128) unsigned char shared[];
    Half* const samples = (Half*)(shared + SAMPLES_AT) + threadIdx.x / 32 * (LINES * RUN);
    float* const scales = (float*)(shared + SCALE_AT);
    if constexpr (INPUT_BYTES == 1)
        for (int i = threadIdx.x; i < CHANNELS_OUT; i += THREADS) scales[i] = scale[i];
    const Geometry size = {height, width, begin, end};
    const bool aligned = rows_aligned(target, target_plane, width * FACTOR, 16);
    convolve(shared, source, weights, bias, size,
             Shuffle{picture, picture_plane, target, target_plane, samples, scales, (const float*)(shared + BIAS_AT), size,
                     aligned});
}
