// A tensor to planes of luma and of chroma, which may be subsampled.
// A thread writes PIXELS samples of GROUPS groups of FACTOR_Y lines, and the chroma samples of these.

constexpr int LINES = GROUPS * FACTOR_Y;
constexpr int ACROSS = PIXELS / FACTOR_X;
constexpr int STEP = INTERLEAVED ? 2 : 1;
constexpr int FIRST_LINE = least(0, Y_BEGIN);
constexpr int END_LINE = most(LINES, (GROUPS - 1) * FACTOR_Y + Y_BEGIN + Y_COUNT);
constexpr int BEFORE = -least(0, X_BEGIN);
constexpr int AFTER = most(0, X_BEGIN + X_COUNT - FACTOR_X);
constexpr int COLUMNS = BEFORE + PIXELS + AFTER;

template <bool WHOLE>
__device__ inline void load_columns(const Element* row, int x, int width, Element (&out)[COLUMNS]) {
    Element here[PIXELS];
    load<WHOLE>(row, x, width, here);
#pragma unroll
    for (int i = 0; i < COLUMNS; ++i)
        out[i] = i >= BEFORE && i < BEFORE + PIXELS ? here[i - BEFORE] : row[within(x + i - BEFORE, width)];
}

// The sums of this line in each group that it counts in.
__device__ inline void add_line(const float (&difference)[COLUMNS], int line, float (&sums)[GROUPS][ACROSS]) {
#pragma unroll
    for (int group = 0; group < GROUPS; ++group) {
        const int tap = line - group * FACTOR_Y - Y_BEGIN;
        if (tap < 0 || tap >= Y_COUNT) continue;
#pragma unroll
        for (int i = 0; i < ACROSS; ++i) {
            float total = 0;
#pragma unroll
            for (int k = 0; k < X_COUNT; ++k) {
                const float value = difference[BEFORE + i * FACTOR_X + X_BEGIN + k];
                total = k == 0 ? X_WEIGHTS[0] * value : fmaf(X_WEIGHTS[k], value, total);
            }
            sums[group][i] = tap == 0 ? Y_WEIGHTS[0] * total : fmaf(Y_WEIGHTS[tap], total, sums[group][i]);
        }
    }
}

__device__ inline float pick(int which, float red, float green, float blue, float luma) {
    return which == 0 ? red : which == 1 ? green : which == 2 ? blue : luma;
}

template <bool WHOLE>
__device__ inline void convert(
    const Planes<Sample>& surface, const Channels<const Element>& tensor, int x, int first, int width, int height) {
    const int across = (width + FACTOR_X - 1) / FACTOR_X, down = (height + FACTOR_Y - 1) / FACTOR_Y;
    const int top = first * FACTOR_Y, left = x / FACTOR_X;
    Element elements[END_LINE - FIRST_LINE][3][COLUMNS];
#pragma unroll
    for (int line = FIRST_LINE; line < END_LINE; ++line)
#pragma unroll
        for (int channel = 0; channel < 3; ++channel)
            load_columns<WHOLE>(
                tensor.row(channel, within(top + line, height)), x, width, elements[line - FIRST_LINE][channel]);

    float cb[GROUPS][ACROSS], cr[GROUPS][ACROSS];
#pragma unroll
    for (int line = FIRST_LINE; line < END_LINE; ++line) {
        float r[COLUMNS], g[COLUMNS], b[COLUMNS], luma[COLUMNS];
#pragma unroll
        for (int i = 0; i < COLUMNS; ++i) {
            r[i] = to_float(elements[line - FIRST_LINE][0][i]);
            g[i] = to_float(elements[line - FIRST_LINE][1][i]);
            b[i] = to_float(elements[line - FIRST_LINE][2][i]);
        }
        sane_luma_of(r, g, b, luma);
        const int y = top + line;
        if (line >= 0 && line < LINES && y < height) {
            Sample codes[PIXELS];
#pragma unroll
            for (int i = 0; i < PIXELS; ++i) codes[i] = to_code(luma[BEFORE + i], LUMA_SCALE, LUMA_OFFSET, x + i, y);
            store(surface.row(0, y), x, width, surface.grain(0), codes);
        }
        float blueness[COLUMNS], redness[COLUMNS];
#pragma unroll
        for (int i = 0; i < COLUMNS; ++i) {
            blueness[i] = pick(CB_MINUEND, r[i], g[i], b[i], luma[i]) - pick(CB_SUBTRAHEND, r[i], g[i], b[i], luma[i]);
            redness[i] = pick(CR_MINUEND, r[i], g[i], b[i], luma[i]) - pick(CR_SUBTRAHEND, r[i], g[i], b[i], luma[i]);
        }
        add_line(blueness, line, cb);
        add_line(redness, line, cr);
    }

#pragma unroll
    for (int group = 0; group < GROUPS; ++group) {
        const int y = first + group;
        if (y >= down) return;
        // Samples of both planes at one place are dithered by neighbouring thresholds, not by the same.
        Sample blueness[ACROSS], redness[ACROSS];
#pragma unroll
        for (int i = 0; i < ACROSS; ++i) {
            blueness[i] = to_code(cb[group][i], CB_SCALE, CHROMA_OFFSET, left + i + 1, y);
            redness[i] = to_code(cr[group][i], CR_SCALE, CHROMA_OFFSET, left + i, y + 1);
        }
        if constexpr (INTERLEAVED) {
            Sample both[2 * ACROSS];
#pragma unroll
            for (int i = 0; i < ACROSS; ++i) {
                both[2 * i + CB_AT] = blueness[i];
                both[2 * i + CR_AT] = redness[i];
            }
            store(surface.row(1, y), STEP * left, STEP * across, surface.grain(1), both);
        } else {
            store(surface.row(1, y), left, across, surface.grain(1), blueness);
            store(surface.row(2, y), left, across, surface.grain(2), redness);
        }
    }
}

extern "C" __global__ void __launch_bounds__(THREADS) KERNEL(
    Sample* __restrict__ plane0, Sample* __restrict__ plane1, Sample* __restrict__ plane2,
    long long pitch0, long long pitch1, long long pitch2,
    const Element* __restrict__ red, const Element* __restrict__ green, const Element* __restrict__ blue, long long pitch,
    int width, int height) {
    const Planes<Sample> surface = {{plane0, plane1, plane2}, {pitch0, pitch1, pitch2}};
    const Channels<const Element> tensor = {{red, green, blue}, pitch};
    const int x = (blockIdx.x * blockDim.x + threadIdx.x) * PIXELS;
    const int first = (blockIdx.y * blockDim.y + threadIdx.y) * GROUPS;
    if (x >= width || first * FACTOR_Y >= height) return;
    if (x + PIXELS <= width && tensor.grain() % WIDEST<Element, PIXELS> == 0)
        convert<true>(surface, tensor, x, first, width, height);
    else
        convert<false>(surface, tensor, x, first, width, height);
}
