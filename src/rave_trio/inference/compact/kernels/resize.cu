// Resamples a planar picture: FACTOR x FACTOR samples of each pixel become SCALE x SCALE, by weighted sums in both
// directions; beyond the edges the outermost repeat.
//
// With SKIP the network's input is added to what is resampled, each pixel to its FACTOR x FACTOR samples.  That is the
// same as resampling both by themselves, and the input's pixels need fewer weights, PICTURE_TAPS.
//
// A thread goes down PIXELS_DOWN pixels in a column of PIXELS, and resamples each row across once.

constexpr int OUTPUTS = PIXELS * SCALE;

template <int N> struct Word;
template <> struct Word<1> { using Type = unsigned short; };
template <> struct Word<2> { using Type = unsigned int; };
template <> struct Word<4> { using Type = uint2; };
template <> struct Word<8> { using Type = uint4; };

// N halves that are moved as one word.
template <int N> union Run {
    typename Word<N>::Type word;
    Half halves[N];
};

struct SampleTaps {
    static constexpr int STEP = FACTOR, FIRST = SAMPLE_FIRST, SPAN = SAMPLE_SPAN;
    static __device__ constexpr float at(int phase, int k) { return SAMPLE_TAPS[phase][k]; }
};

struct PictureTaps {
    static constexpr int STEP = 1, FIRST = PICTURE_FIRST, SPAN = PICTURE_SPAN;
    static __device__ constexpr float at(int phase, int k) { return PICTURE_TAPS[phase][k]; }
};

// A column of one plane, of Taps::STEP samples a pixel: the rows around one of pixels, resampled across.
template <class Taps> struct Column {
    static constexpr int INPUTS = PIXELS * Taps::STEP, COLUMNS = (PIXELS - 1) * Taps::STEP + Taps::SPAN;
    static constexpr int KEPT = Taps::SPAN > Taps::STEP ? Taps::SPAN - Taps::STEP : 0;
    static constexpr int GRAIN = INPUTS % 8 == 0 ? 8 : INPUTS % 4 == 0 ? 4 : INPUTS % 2 == 0 ? 2 : 1;

    const Half* plane;
    int height, width;  // In samples.
    int first;          // The column's first sample.
    bool whole;         // Whether its INPUTS samples are there and aligned to GRAIN of them.
    float rows[Taps::SPAN][OUTPUTS];

    __device__ Column(const Half* plane, bool aligned, int height, int width, int x)
        : plane(plane), height(height * Taps::STEP), width(width * Taps::STEP), first(x * Taps::STEP) {
        whole = aligned && x + PIXELS <= width;
    }

    __device__ void across(int y, float (&out)[OUTPUTS]) const {
        const Half* const row = plane + (long long)within(y, height) * width;
        float values[COLUMNS];
        if (whole) {
            Run<GRAIN> runs[INPUTS / GRAIN];
#pragma unroll
            for (int i = 0; i < INPUTS / GRAIN; ++i)
                runs[i].word = ((const typename Word<GRAIN>::Type*)(row + first))[i];
#pragma unroll
            for (int i = 0; i < COLUMNS; ++i) {
                const int at = i + Taps::FIRST;
                values[i] = to_float(at >= 0 && at < INPUTS ? runs[at / GRAIN].halves[at % GRAIN]
                                                            : row[within(first + at, width)]);
            }
        } else {
#pragma unroll
            for (int i = 0; i < COLUMNS; ++i) values[i] = to_float(row[within(first + Taps::FIRST + i, width)]);
        }
#pragma unroll
        for (int i = 0; i < OUTPUTS; ++i) {
            out[i] = 0;
#pragma unroll
            for (int k = 0; k < Taps::SPAN; ++k)
                if (Taps::at(i % SCALE, k) != 0)
                    out[i] = fmaf(Taps::at(i % SCALE, k), values[i / SCALE * Taps::STEP + k], out[i]);
        }
    }

    // What row `y` of pixels shares with the one above it.
    __device__ void begin(int y) {
#pragma unroll
        for (int k = 0; k < KEPT; ++k) across(y * Taps::STEP + Taps::FIRST + k, rows[k]);
    }

    __device__ void read(int y) {
#pragma unroll
        for (int k = KEPT; k < Taps::SPAN; ++k) across(y * Taps::STEP + Taps::FIRST + k, rows[k]);
    }

    __device__ void advance() {
#pragma unroll
        for (int k = 0; k < KEPT; ++k)
#pragma unroll
            for (int i = 0; i < OUTPUTS; ++i) rows[k][i] = rows[Taps::SPAN - KEPT + k][i];
    }

    __device__ float down(int phase, int i, float sum) const {
#pragma unroll
        for (int k = 0; k < Taps::SPAN; ++k)
            if (Taps::at(phase, k) != 0) sum = fmaf(Taps::at(phase, k), rows[k][i], sum);
        return sum;
    }
};

constexpr int LARGEST = OUTPUTS % 8 == 0 ? 8 : OUTPUTS % 4 == 0 ? 4 : OUTPUTS % 2 == 0 ? 2 : 1;

extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS) resize(
    const Half* __restrict__ source, long long source_plane, const Half* __restrict__ picture, long long picture_plane,
    Half* __restrict__ target, long long target_plane, int height, int width, int begin, int end) {
    const int x = (blockIdx.x * THREADS + threadIdx.x) * PIXELS, c = blockIdx.z;
    const int top = begin + blockIdx.y * PIXELS_DOWN, bottom = min(top + PIXELS_DOWN, end);
    if (x >= width) return;
    Column<SampleTaps> samples(
        source + c * source_plane,
        rows_aligned(source, source_plane, width * FACTOR, 2 * Column<SampleTaps>::GRAIN), height, width, x);
    Column<PictureTaps> pixels(
        picture + c * picture_plane,
        SKIP && rows_aligned(picture, picture_plane, width, 2 * Column<PictureTaps>::GRAIN), height, width, x);
    const bool aligned = x + PIXELS <= width && rows_aligned(target, target_plane, width * SCALE, 2 * LARGEST);
    samples.begin(top);
    if (SKIP) pixels.begin(top);
#pragma unroll 1
    for (int y = top; y < bottom; ++y) {
        samples.read(y);
        if (SKIP) pixels.read(y);
#pragma unroll
        for (int phase = 0; phase < SCALE; ++phase) {
            Half* const row =
                target + c * target_plane + ((long long)y * SCALE + phase) * width * SCALE + (long long)x * SCALE;
            Run<LARGEST> runs[OUTPUTS / LARGEST];
#pragma unroll
            for (int i = 0; i < OUTPUTS; ++i) {
                const float sum = samples.down(phase, i, 0);
                runs[i / LARGEST].halves[i % LARGEST] = output_value<CLIP>(SKIP ? pixels.down(phase, i, sum) : sum);
            }
            if (aligned) {
#pragma unroll
                for (int i = 0; i < OUTPUTS / LARGEST; ++i) ((typename Word<LARGEST>::Type*)row)[i] = runs[i].word;
            } else {
#pragma unroll
                for (int i = 0; i < OUTPUTS; ++i)
                    if (x * SCALE + i < width * SCALE) row[i] = runs[i / LARGEST].halves[i % LARGEST];
            }
        }
        samples.advance();
        if (SKIP) pixels.advance();
    }
}
