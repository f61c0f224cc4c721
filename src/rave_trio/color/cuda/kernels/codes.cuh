// From numbers to code values: rounded to nearest (or by an ordered threshold), clipped to what the format holds.

// Ordered dither: in (0, 1), by the sample's place.
__device__ inline float threshold(int x, int y) {
    return (float)THRESHOLDS[y & (THRESHOLDS_SIDE - 1)][x & (THRESHOLDS_SIDE - 1)] * (1.0f / THRESHOLDS_UNIT);
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
