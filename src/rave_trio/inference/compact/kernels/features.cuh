// How the features of a pixel lie over the lanes of a warp, so that each lane writes whole words of 16 (or 8) bytes.
//
// In a product of 16 pixels by 8 columns a lane holds columns 2 q and 2 q + 1 of pixels g and g + 8, where q = lane % 4
// and g = lane / 4.  Columns may stand for any features.  Over T products side by side (4, or 2 where 16 features are
// left) column c of product t is feature 2 T (c / 2) + 2 t + c % 2, which gives a lane 2 T neighbours.

// The feature of `column`, counted through the products of one warp, which has FEATURES of them.
template <int FEATURES> __device__ constexpr int feature_of(int column) {
    const int first = column / 32 * 32;
    const int products = FEATURES - first < 32 ? 2 : 4;
    return first + column % 8 / 2 * 2 * products + (column - first) / 8 * 2 + column % 2;
}

__device__ inline float activated(float value, float slope) { return value > 0 ? value : slope * value; }

// Writes what a lane holds of one pixel: of each product t the columns 2 q and 2 q + 1, in sums[t][at] and [at + 1].
// `slopes` and `pixel` are of the warp's first feature.
template <int PRODUCTS>
__device__ inline void write_features(Half* pixel, const float (&sums)[PRODUCTS][4], int at, const float* slopes, int q) {
#pragma unroll
    for (int first = 0; first < PRODUCTS; first += 4) {
        constexpr int LEFT = PRODUCTS % 4;
        const int products = PRODUCTS - first < 4 ? LEFT : 4;
        const int feature = first * 8 + 2 * products * q;
        unsigned int words[4];
#pragma unroll
        for (int t = 0; t < products; ++t) {
            const float2 slope = *(const float2*)(slopes + feature + 2 * t);
            words[t] = halves(activated(sums[first + t][at], slope.x), activated(sums[first + t][at + 1], slope.y));
        }
        if (products == 4)
            *(uint4*)(pixel + feature) = make_uint4(words[0], words[1], words[2], words[3]);
        else
            *(uint2*)(pixel + feature) = make_uint2(words[0], words[1]);
    }
}
