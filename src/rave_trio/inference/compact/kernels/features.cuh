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

// Bytes that are read and written at once.
template <int COUNT> struct alignas(4 * COUNT) Words {
    unsigned int words[COUNT];
};

// What a lane has of products `first` to `first` + COUNT: 2 COUNT neighbours of each pixel.  Products are taken by four, and
// the two that may be left by themselves.
template <int COUNT> struct Neighbours {
    int first, feature;
    float slopes[2 * COUNT];

    // `all_slopes` are the warp's.
    __device__ Neighbours(const float* all_slopes, int first, int q) : first(first), feature(8 * first + 2 * COUNT * q) {
        read(slopes, all_slopes);
    }

    // What `all` of the warp has for them.
    __device__ void read(float (&own)[2 * COUNT], const float* all) const {
#pragma unroll
        for (int t = 0; t < COUNT; ++t) {
            const float2 pair = *(const float2*)(all + feature + 2 * t);
            own[2 * t] = pair.x;
            own[2 * t + 1] = pair.y;
        }
    }

    // Those in sums[t][at] and [at + 1]; `pixel` is the warp's first feature of it.
    template <int PRODUCTS> __device__ void write(Half* pixel, const float (&sums)[PRODUCTS][4], int at) const {
        float values[2 * COUNT];
#pragma unroll
        for (int i = 0; i < 2 * COUNT; ++i) values[i] = activated(sums[first + i / 2][at + i % 2], slopes[i]);
        Words<COUNT> made;
#pragma unroll
        for (int t = 0; t < COUNT; ++t) made.words[t] = halves(values[2 * t], values[2 * t + 1]);
        *(Words<COUNT>*)(pixel + feature) = made;
    }
};
