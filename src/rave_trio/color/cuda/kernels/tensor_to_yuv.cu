// A tensor to planes of luma and of chroma.  A thread writes what yuv_codes.cuh says.

template <bool WHOLE>
__device__ inline void load_columns(const Element* row, int x, int width, Element (&out)[COLUMNS]) {
    Element here[PIXELS];
    load<WHOLE>(row, x, width, here);
#pragma unroll
    for (int i = 0; i < COLUMNS; ++i)
        out[i] = i >= BEFORE && i < BEFORE + PIXELS ? here[i - BEFORE] : row[within(x + i - BEFORE, width)];
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

    Chroma chroma;
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
        if (line >= 0 && line < LINES && y < height) write_luma<false>(surface, luma, x, width, y);
        chroma.add(r, g, b, luma, line);
    }

#pragma unroll
    for (int group = 0; group < GROUPS; ++group) {
        if (first + group >= down) return;
        chroma.write<false>(surface, group, left, across, first + group);
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
