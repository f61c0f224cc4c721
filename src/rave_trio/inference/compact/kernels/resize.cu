// Resamples a planar picture: of FACTOR x FACTOR samples a pixel become SCALE x SCALE, by the weights TAPS[phase] of SPAN
// samples from FIRST on, in both directions; beyond the edges the outermost repeat.  With SKIP the network's input is
// added to what is resampled, each pixel to its FACTOR x FACTOR samples.
//
// A thread goes down PIXELS_DOWN pixels in a column of PIXELS, and resamples each row across once.

constexpr int INPUTS = PIXELS * FACTOR, OUTPUTS = PIXELS * SCALE;
constexpr int COLUMNS = (PIXELS - 1) * FACTOR + SPAN;
constexpr int KEPT = SPAN > FACTOR ? SPAN - FACTOR : 0;
constexpr bool WIDE = INPUTS == 8;

template <int N> struct Word;
template <> struct Word<1> { using Type = unsigned short; };
template <> struct Word<2> { using Type = unsigned int; };
template <> struct Word<4> { using Type = uint2; };
template <> struct Word<8> { using Type = uint4; };

constexpr int LARGEST = OUTPUTS % 8 == 0 ? 8 : OUTPUTS % 4 == 0 ? 4 : OUTPUTS % 2 == 0 ? 2 : 1;

template <int N> __device__ inline void write(Half* row, const Half (&values)[OUTPUTS]) {
    union {
        typename Word<N>::Type words[OUTPUTS / N];
        Half halves[OUTPUTS];
    } run;
#pragma unroll
    for (int i = 0; i < OUTPUTS; ++i) run.halves[i] = values[i];
#pragma unroll
    for (int i = 0; i < OUTPUTS / N; ++i) ((typename Word<N>::Type*)row)[i] = run.words[i];
}

struct Resampling {
    const Half* source;  // Of one plane, as is the picture.
    const Half* picture;
    int height, width;  // The picture's.
    int x;              // The column's first pixel.
    bool whole;         // Whether all its samples are there and 16-byte aligned.

    // Row y of the source, clamped, resampled across.
    __device__ void across(int y, float (&out)[OUTPUTS]) const {
        const int row = within(y, height * FACTOR), across = width * FACTOR, first = x * FACTOR + FIRST;
        const Half* const samples = source + (long long)row * across;
        float values[COLUMNS];
        if (WIDE && whole) {
            union {
                uint4 word;
                Half halves[8];
            } run;
            run.word = *(const uint4*)(samples + x * FACTOR);
#pragma unroll
            for (int i = 0; i < COLUMNS; ++i) {
                const int at = i + FIRST;
                values[i] = to_float(at >= 0 && at < 8 ? run.halves[at & 7] : samples[within(first + i, across)]);
            }
        } else {
#pragma unroll
            for (int i = 0; i < COLUMNS; ++i) values[i] = to_float(samples[within(first + i, across)]);
        }
        if constexpr (SKIP) {
            const int y = row / FACTOR;
            constexpr int BEFORE = (FIRST - FACTOR + 1) / FACTOR, PIXELS_READ = (COLUMNS + FIRST - 1) / FACTOR - BEFORE + 1;
            float pixels[PIXELS_READ];
#pragma unroll
            for (int i = 0; i < PIXELS_READ; ++i)
                pixels[i] = to_float(input_value(picture, 0, width, 0, y, within(x + BEFORE + i, width)));
#pragma unroll
            for (int i = 0; i < COLUMNS; ++i) values[i] += pixels[(i + FIRST - BEFORE * FACTOR) / FACTOR];
        }
#pragma unroll
        for (int i = 0; i < OUTPUTS; ++i) {
            out[i] = 0;
#pragma unroll
            for (int k = 0; k < SPAN; ++k)
                if (TAPS[i % SCALE][k] != 0) out[i] = fmaf(TAPS[i % SCALE][k], values[i / SCALE * FACTOR + k], out[i]);
        }
    }
};

extern "C" __global__ void __launch_bounds__(128) resize(
    const Half* __restrict__ source, long long source_plane, const Half* __restrict__ picture, long long picture_plane,
    Half* __restrict__ target, long long target_plane, int height, int width, int begin, int end) {
    const int x = (blockIdx.x * blockDim.x + threadIdx.x) * PIXELS, c = blockIdx.z;
    const int top = begin + blockIdx.y * PIXELS_DOWN, bottom = min(top + PIXELS_DOWN, end);
    if (x >= width) return;
    const bool there = x + PIXELS <= width;
    const Resampling resampling = {
        source + c * source_plane, SKIP ? picture + c * picture_plane : picture, height, width, x,
        there && rows_aligned(source, source_plane, width * FACTOR, 16)};
    const bool aligned = there && rows_aligned(target, target_plane, width * SCALE, 2 * LARGEST);
    float rows[SPAN][OUTPUTS];
#pragma unroll
    for (int k = 0; k < KEPT; ++k) resampling.across(top * FACTOR + FIRST + k, rows[k]);
#pragma unroll 1
    for (int y = top; y < bottom; ++y) {
#pragma unroll
        for (int k = KEPT; k < SPAN; ++k) resampling.across(y * FACTOR + FIRST + k, rows[k]);
#pragma unroll
        for (int p = 0; p < SCALE; ++p) {
            Half* const row = target + c * target_plane + ((long long)y * SCALE + p) * width * SCALE + (long long)x * SCALE;
            Half values[OUTPUTS];
#pragma unroll
            for (int i = 0; i < OUTPUTS; ++i) {
                float sum = 0;
#pragma unroll
                for (int k = 0; k < SPAN; ++k)
                    if (TAPS[p][k] != 0) sum = fmaf(TAPS[p][k], rows[k][i], sum);
                values[i] = output_value<CLIP>(sum);
            }
            if (aligned) {
                write<LARGEST>(row, values);
            } else {
#pragma unroll
                for (int i = 0; i < OUTPUTS; ++i)
                    if (x * SCALE + i < width * SCALE) row[i] = values[i];
            }
        }
#pragma unroll
        for (int k = 0; k < KEPT; ++k)
#pragma unroll
            for (int i = 0; i < OUTPUTS; ++i) rows[k][i] = rows[SPAN - KEPT + k][i];
    }
}
