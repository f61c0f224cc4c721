// Planes of R, G and B, or of grey, to a tensor.  A thread reads PIXELS samples of GROUPS lines.

template <bool WHOLE>
__device__ inline void convert(
    const Planes<const Sample>& surface, const Channels<Element>& tensor, int x, int top, int width, int height) {
    Sample codes[GROUPS][COMPONENTS][PIXELS];
#pragma unroll
    for (int line = 0; line < GROUPS; ++line)
#pragma unroll
        for (int component = 0; component < COMPONENTS; ++component)
            load<WHOLE>(surface.row(component, within(top + line, height)), x, width, codes[line][component]);
#pragma unroll
    for (int line = 0; line < GROUPS; ++line) {
        const int y = top + line;
        if (y >= height) return;
#pragma unroll
        for (int channel = 0; channel < 3; ++channel) {
            float values[PIXELS];
#pragma unroll
            for (int i = 0; i < PIXELS; ++i) {
                const Sample code = codes[line][COMPONENTS == 1 ? 0 : channel][i];
                values[i] = ((float)(int)(code >> SHIFT) - OFFSET) * SCALE;
            }
            store_floats(tensor.row(channel, y), x, width, tensor.grain(), values);
        }
    }
}

extern "C" __global__ void __launch_bounds__(THREADS) KERNEL(
    const Sample* __restrict__ plane0, const Sample* __restrict__ plane1, const Sample* __restrict__ plane2,
    long long pitch0, long long pitch1, long long pitch2,
    Element* __restrict__ red, Element* __restrict__ green, Element* __restrict__ blue, long long pitch,
    int width, int height) {
    const Planes<const Sample> surface = {{plane0, plane1, plane2}, {pitch0, pitch1, pitch2}};
    const Channels<Element> tensor = {{red, green, blue}, pitch};
    const int x = (blockIdx.x * blockDim.x + threadIdx.x) * PIXELS;
    const int top = (blockIdx.y * blockDim.y + threadIdx.y) * GROUPS;
    if (x >= width || top >= height) return;
    unsigned int grain = 0;
    for (int component = 0; component < COMPONENTS; ++component) grain |= surface.grain(component);
    if (x + PIXELS <= width && grain % WIDEST<Sample, PIXELS> == 0)
        convert<true>(surface, tensor, x, top, width, height);
    else
        convert<false>(surface, tensor, x, top, width, height);
}
