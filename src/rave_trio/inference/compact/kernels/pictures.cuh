// Planar pictures: sample (c, y, x) lies c * plane + y * width + x elements on.

constexpr int COLOURS = 3;

__device__ inline int within(int value, int size) { return value < 0 ? 0 : value < size ? value : size - 1; }

// The network's input; (y, x) must be in the picture.
__device__ inline Half input_value(const Half* picture, long long plane, int width, int c, int y, int x) {
    return picture[c * plane + (long long)y * width + x];
}

// The network's output as it is stored.
template <bool CLIPPED> __device__ inline Half output_value(float value) {
    Half half;
    from_float(CLIPPED ? fminf(fmaxf(value, 0), 1) : value, half);
    return half;
}

// Whether all rows, `width` elements long, begin at multiples of `bytes`.
__device__ inline bool rows_aligned(const Half* picture, long long plane, int width, int bytes) {
    const unsigned long long all = (unsigned long long)picture | (2 * plane) | (2ull * width);
    return all % bytes == 0;
}
