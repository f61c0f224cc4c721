// From numbers to code values: rounded to nearest (or by an ordered threshold), clipped to what the format holds.

// Bayer's 8 x 8 matrix as thresholds in (0, 1), the mean of which is 1/2: the bits of x ^ y and of y, reversed and
// interleaved.
__device__ inline float threshold(int x, int y) {
    const int a = x ^ y;
    const int rank = (a & 1) << 5 | (y & 1) << 4 | (a & 2) << 2 | (y & 2) << 1 | (a & 4) >> 1 | (y & 4) >> 2;
    return (float)(2 * rank + 1) * (1.0f / 128);
}

// `value` is scaled and moved by `offset`; x and y are where the sample lies among those of its plane.
__device__ inline Sample to_code(float value, float scale, float offset, int x, int y) {
    const float base = DITHER ? offset + threshold(x, y) : offset + 0.5f;
    const float code = fminf(fmaxf(fmaf(value, scale, base), 0.0f), HIGHEST);
    return (Sample)((unsigned int)code << SHIFT);
}

constexpr float BOUND = 1e6f;

// What is not a number becomes 0, what is infinite becomes a number far outside any code range.
__device__ inline float finite(float value) {
    return value == value ? fminf(fmaxf(value, -BOUND), BOUND) : 0.0f;
}

// Luma from the differences to green, so that grey gives grey exactly; returns whether all are finite.
template <int N>
__device__ inline bool luma_of(const float (&red)[N], const float (&green)[N], const float (&blue)[N], float (&luma)[N]) {
    bool all = true;
#pragma unroll
    for (int i = 0; i < N; ++i) {
        luma[i] = fmaf(red[i] - green[i], RED_WEIGHT, fmaf(blue[i] - green[i], BLUE_WEIGHT, green[i]));
        all = all && fabsf(luma[i]) <= 3.4028234e38f;
    }
    return all;
}

// The same, where what is not finite is made so first.
template <int N>
__device__ inline void sane_luma_of(float (&red)[N], float (&green)[N], float (&blue)[N], float (&luma)[N]) {
    if (luma_of(red, green, blue, luma)) return;
#pragma unroll
    for (int i = 0; i < N; ++i) {
        red[i] = finite(red[i]);
        green[i] = finite(green[i]);
        blue[i] = finite(blue[i]);
    }
    luma_of(red, green, blue, luma);
}
