// Planes of luma and of chroma, which may be subsampled, to a tensor.
// A thread reads PIXELS samples of GROUPS groups of FACTOR_Y lines.  Chroma is interpolated down and then across, with
// whole numbers as weights: sums of the codes of up to ten bits are exact.

constexpr int LINES = GROUPS * FACTOR_Y;
constexpr int ACROSS = PIXELS / FACTOR_X;
constexpr int COLUMNS = ACROSS - 1 + X_SPAN;
constexpr int ROWS = GROUPS - 1 + Y_SPAN;
constexpr int STEP = INTERLEAVED ? 2 : 1;
constexpr bool HAS_MARGIN = X_SPAN > 1;
static_assert(X_FIRST >= -ACROSS && X_FIRST + X_SPAN - 1 <= ACROSS, "a block's neighbours hold what it needs");

// COLUMNS numbers around zero from column `first` + X_FIRST on; beyond the picture's edges the outermost repeat.
// WHOLE: the block from `first` on is there and aligned, and so are its neighbours, unless they lie beyond the edges.
template <bool WHOLE>
__device__ inline void load_chroma(const Sample* row, int first, int across, int at, float (&out)[COLUMNS]) {
    Sample codes[COLUMNS];
    if constexpr (WHOLE) {
        Sample before[ACROSS * STEP], here[ACROSS * STEP], after[ACROSS * STEP];
        const bool leftmost = first == 0, rightmost = first + ACROSS == across;
        const Sample* const start = row + first * STEP;
        load_block(start, here);
        if constexpr (HAS_MARGIN) {
            load_block(leftmost ? start : start - ACROSS * STEP, before);
            load_block(rightmost ? start : start + ACROSS * STEP, after);
        }
        const Sample outer_left = here[at], outer_right = here[(ACROSS - 1) * STEP + at];
#pragma unroll
        for (int i = 0; i < COLUMNS; ++i) {
            const int column = i + X_FIRST;
            if (column < 0)
                codes[i] = leftmost ? outer_left : before[(column + ACROSS) * STEP + at];
            else if (column < ACROSS)
                codes[i] = here[column * STEP + at];
            else
                codes[i] = rightmost ? outer_right : after[(column - ACROSS) * STEP + at];
        }
    } else {
#pragma unroll
        for (int i = 0; i < COLUMNS; ++i) codes[i] = row[within(first + X_FIRST + i, across) * STEP + at];
    }
#pragma unroll
    for (int i = 0; i < COLUMNS; ++i) out[i] = (float)(int)(codes[i] >> SHIFT) - CHROMA_OFFSET;
}

__device__ inline void add_row(const float (&row)[COLUMNS], int number, float (&sums)[LINES][COLUMNS]) {
#pragma unroll
    for (int line = 0; line < LINES; ++line) {
        const int tap = number - line / FACTOR_Y;
        if (tap < 0 || tap >= Y_SPAN) continue;
        const float weight = Y_WEIGHTS[line % FACTOR_Y][tap];
        if (weight == 0) continue;
#pragma unroll
        for (int i = 0; i < COLUMNS; ++i)
            sums[line][i] = tap == Y_BEGINS[line % FACTOR_Y] ? weight * row[i] : fmaf(weight, row[i], sums[line][i]);
    }
}

__device__ inline float across_at(const float (&sums)[COLUMNS], int pixel) {
    float total = 0;
#pragma unroll
    for (int tap = 0; tap < X_SPAN; ++tap) {
        const float weight = X_WEIGHTS[pixel % FACTOR_X][tap];
        if (weight == 0) continue;
        const float sum = sums[pixel / FACTOR_X + tap];
        total = tap == X_BEGINS[pixel % FACTOR_X] ? weight * sum : fmaf(weight, sum, total);
    }
    return total;
}

template <bool WHOLE>
__device__ inline void convert(
    const Planes<const Sample>& surface, const Channels<Element>& tensor, int x, int group, int width, int height) {
    const int across = (width + FACTOR_X - 1) / FACTOR_X, down = (height + FACTOR_Y - 1) / FACTOR_Y;
    const int top = group * FACTOR_Y;
    Sample codes[LINES][PIXELS];
#pragma unroll
    for (int line = 0; line < LINES; ++line)
        load<WHOLE>(surface.row(0, within(top + line, height)), x, width, codes[line]);

    float cb[LINES][COLUMNS], cr[LINES][COLUMNS];
#pragma unroll
    for (int number = 0; number < ROWS; ++number) {
        const int y = within(group + Y_FIRST + number, down);
        float row[COLUMNS];
        load_chroma<WHOLE>(surface.row(1, y), x / FACTOR_X, across, CB_AT, row);
        add_row(row, number, cb);
        load_chroma<WHOLE>(surface.row(2, y), x / FACTOR_X, across, CR_AT, row);
        add_row(row, number, cr);
    }

#pragma unroll
    for (int line = 0; line < LINES; ++line) {
        const int y = top + line;
        if (y >= height) return;
        float r[PIXELS], g[PIXELS], b[PIXELS];
#pragma unroll
        for (int i = 0; i < PIXELS; ++i) {
            const float luma = ((float)(int)(codes[line][i] >> SHIFT) - LUMA_OFFSET) * LUMA_SCALE;
            const float blueness = across_at(cb[line], i), redness = across_at(cr[line], i);
            r[i] = fmaf(redness, CR_IN_RED, CB_IN_RED != 0 ? fmaf(blueness, CB_IN_RED, luma) : luma);
            g[i] = fmaf(blueness, CB_IN_GREEN, CR_IN_GREEN != 0 ? fmaf(redness, CR_IN_GREEN, luma) : luma);
            b[i] = fmaf(blueness, CB_IN_BLUE, CR_IN_BLUE != 0 ? fmaf(redness, CR_IN_BLUE, luma) : luma);
        }
        store_floats(tensor.row(0, y), x, width, tensor.grain(), r);
        store_floats(tensor.row(1, y), x, width, tensor.grain(), g);
        store_floats(tensor.row(2, y), x, width, tensor.grain(), b);
    }
}

extern "C" __global__ void __launch_bounds__(THREADS) KERNEL(
    const Sample* __restrict__ plane0, const Sample* __restrict__ plane1, const Sample* __restrict__ plane2,
    long long pitch0, long long pitch1, long long pitch2,
    Element* __restrict__ red, Element* __restrict__ green, Element* __restrict__ blue, long long pitch,
    int width, int height) {
    const Planes<const Sample> surface = {
        {plane0, plane1, INTERLEAVED ? plane1 : plane2}, {pitch0, pitch1, INTERLEAVED ? pitch1 : pitch2}};
    const Channels<Element> tensor = {{red, green, blue}, pitch};
    const int x = (blockIdx.x * blockDim.x + threadIdx.x) * PIXELS;
    const int group = (blockIdx.y * blockDim.y + threadIdx.y) * GROUPS;
    if (x >= width || group * FACTOR_Y >= height) return;
    const int left = x / FACTOR_X, across = (width + FACTOR_X - 1) / FACTOR_X;
    const bool here = x + PIXELS <= width && (left + ACROSS == across || left + 2 * ACROSS <= across);
    const bool aligned = surface.grain(0) % WIDEST<Sample, PIXELS> == 0 &&
                         (surface.grain(1) | surface.grain(2)) % WIDEST<Sample, ACROSS * STEP> == 0;
    if (here && aligned)
        convert<true>(surface, tensor, x, group, width, height);
    else
        convert<false>(surface, tensor, x, group, width, height);
}
