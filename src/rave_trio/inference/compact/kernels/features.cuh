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

// What a lane has of products `first` to `first` + COUNT: 2 COUNT neighbours of each pixel.  Products are taken by four, and
// the two that may be left by themselves.
template <int COUNT> struct Neighbours {
    int first, feature;
    float slopes[2 * COUNT];

    // `all_slopes` are the warp's.
    __device__ Neighbours(const float* all_slopes, int first, int q) : first(first), feature(8 * first + 2 * COUNT * q) {
#pragma unroll
        for (int t = 0; t < COUNT; ++t) {
            const float2 pair = *(const float2*)(all_slopes + feature + 2 * t);
            slopes[2 * t] = pair.x;
            slopes[2 * t + 1] = pair.y;
        }
    }

    // Those in sums[t][at] and [at + 1]; `pixel` is the warp's first feature of it.
    template <int PRODUCTS> __device__ void write(Half* pixel, const float (&sums)[PRODUCTS][4], int at) const {
        unsigned int words[COUNT];
#pragma unroll
        for (int t = 0; t < COUNT; ++t)
            words[t] = halves(activated(sums[first + t][at], slopes[2 * t]),
                              activated(sums[first + t][at + 1], slopes[2 * t + 1]));
        if constexpr (COUNT == 4)
            *(uint4*)(pixel + feature) = make_uint4(words[0], words[1], words[2], words[3]);
        else
            *(uint2*)(pixel + feature) = make_uint2(words[0], words[1]);
    }
};
