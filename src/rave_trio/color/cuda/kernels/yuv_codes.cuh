// What lines of R, G and B become in planes of luma and of chroma, which may be subsampled: a thread has PIXELS columns of
// GROUPS groups of FACTOR_Y lines, and the chroma samples of these.  WHOLE: all of them are there, and rows are aligned to
// what a thread writes of one.

constexpr int LINES = GROUPS * FACTOR_Y;
constexpr int ACROSS = PIXELS / FACTOR_X;
constexpr int STEP = INTERLEAVED ? 2 : 1;
constexpr int FIRST_LINE = least(0, Y_BEGIN);
constexpr int END_LINE = most(LINES, (GROUPS - 1) * FACTOR_Y + Y_BEGIN + Y_COUNT);
constexpr int BEFORE = -least(0, X_BEGIN);
constexpr int AFTER = most(0, X_BEGIN + X_COUNT - FACTOR_X);
constexpr int COLUMNS = BEFORE + PIXELS + AFTER;

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

// A line's codes of luma to row `y` of the surface from column `x` on; `values` have the columns beside them.
template <bool WHOLE>
__device__ inline void write_luma(
    const Planes<Sample>& surface, const float (&values)[COLUMNS], int x, int width, int y) {
    Sample codes[PIXELS];
#pragma unroll
    for (int i = 0; i < PIXELS; ++i) codes[i] = to_code(values[BEFORE + i], LUMA_SCALE, LUMA_OFFSET, x + i, y);
    put<WHOLE>(surface.row(0, y), x, width, surface.grain(0), codes);
}

__device__ inline bool rows_aligned(const Planes<Sample>& surface) {
    return surface.grain(0) % WIDEST<Sample, PIXELS> == 0 &&
           (surface.grain(1) | surface.grain(2)) % WIDEST<Sample, ACROSS * STEP> == 0;
}

struct Chroma {
    float cb[GROUPS][ACROSS], cr[GROUPS][ACROSS];

    // Takes in a line, counted from the first of the groups; lines come in their order.
    __device__ void add(const float (&red)[COLUMNS], const float (&green)[COLUMNS], const float (&blue)[COLUMNS],
                        const float (&luma)[COLUMNS], int line) {
        float blueness[COLUMNS], redness[COLUMNS];
#pragma unroll
        for (int i = 0; i < COLUMNS; ++i) {
            blueness[i] = pick(CB_MINUEND, red[i], green[i], blue[i], luma[i]) -
                          pick(CB_SUBTRAHEND, red[i], green[i], blue[i], luma[i]);
            redness[i] = pick(CR_MINUEND, red[i], green[i], blue[i], luma[i]) -
                         pick(CR_SUBTRAHEND, red[i], green[i], blue[i], luma[i]);
        }
        add_line(blueness, line, cb);
        add_line(redness, line, cr);
    }

    // The codes of one group to row `y` of chroma from column `left` on, of `across`.
    template <bool WHOLE> __device__ void write(const Planes<Sample>& surface, int group, int left, int across, int y) const {
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
            put<WHOLE>(surface.row(1, y), STEP * left, STEP * across, surface.grain(1), both);
        } else {
            put<WHOLE>(surface.row(1, y), left, across, surface.grain(1), blueness);
            put<WHOLE>(surface.row(2, y), left, across, surface.grain(2), redness);
        }
    }
};
