// A tensor to planes of R, G and B, or to grey, which is luma.  A thread writes PIXELS samples of GROUPS lines.

template <bool WHOLE>
__device__ inline void convert(
    const Planes<Sample>& surface, const Channels<const Element>& tensor, int x, int top, int width, int height) {
    Element elements[GROUPS][3][PIXELS];
#pragma unroll
    for (int line = 0; line < GROUPS; ++line)
#pragma unroll
        for (int channel = 0; channel < 3; ++channel)
            load<WHOLE>(tensor.row(channel, within(top + line, height)), x, width, elements[line][channel]);
#pragma unroll
    for (int line = 0; line < GROUPS; ++line) {
        const int y = top + line;
        if (y >= height) return;
        float values[3][PIXELS], luma[PIXELS];
#pragma unroll
        for (int channel = 0; channel < 3; ++channel)
#pragma unroll
            for (int i = 0; i < PIXELS; ++i) values[channel][i] = to_float(elements[line][channel][i]);
        if (COMPONENTS == 1) sane_luma_of(values[0], values[1], values[2], luma);
#pragma unroll
        for (int component = 0; component < COMPONENTS; ++component) {
            Sample codes[PIXELS];
#pragma unroll
            for (int i = 0; i < PIXELS; ++i) {
                const float value = COMPONENTS == 1 ? luma[i] : finite(values[component][i]);
                codes[i] = to_code(value, SCALE, OFFSET, x + i, y);
            }
            store(surface.row(component, y), x, width, surface.grain(component), codes);
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
    const int top = (blockIdx.y * blockDim.y + threadIdx.y) * GROUPS;
    if (x >= width || top >= height) return;
    if (x + PIXELS <= width && tensor.grain() % WIDEST<Element, PIXELS> == 0)
        convert<true>(surface, tensor, x, top, width, height);
    else
        convert<false>(surface, tensor, x, top, width, height);
}
