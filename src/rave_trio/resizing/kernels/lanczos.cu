// One axis of a resize: an output sample is a weighted sum of input samples along it.  A thread makes one sample of
// each channel.  What must be known stands in constants before: Source and Target (element types), ROWS (whether the
// axis is the vertical one), CHANNELS and TAPS.

__device__ inline int within(int value, int size) { return value < 0 ? 0 : value < size ? value : size - 1; }

// Channels are dense above one another: `rows` rows of the channel before, `pitch` bytes each.
template <class T> __device__ inline T* row_of(T* plane, long long pitch, int rows, int channel, int y) {
    return (T*)((unsigned char*)plane + pitch * ((long long)channel * rows + y));
}

extern "C" __global__ void __launch_bounds__(THREADS) lanczos(
    const Source* __restrict__ source, long long source_pitch, Target* __restrict__ target, long long target_pitch,
    const int* __restrict__ first, const float* __restrict__ weights, int source_size, int width, int height) {
    const int x = blockIdx.x * blockDim.x + threadIdx.x, y = blockIdx.y * blockDim.y + threadIdx.y;
    if (x >= width || y >= height) return;
    const int place = ROWS ? y : x;
    const int begin = first[place];
    float sums[CHANNELS];
#pragma unroll
    for (int channel = 0; channel < CHANNELS; ++channel) sums[channel] = 0.0f;
    for (int tap = 0; tap < TAPS; ++tap) {
        const int at = within(begin + tap, source_size);
        // Weights lie tap by tap, so that the threads of a warp read them side by side.
        const float weight = weights[(long long)tap * (ROWS ? height : width) + place];
#pragma unroll
        for (int channel = 0; channel < CHANNELS; ++channel) {
            const Source* row = row_of(source, source_pitch, ROWS ? source_size : height, channel, ROWS ? at : y);
            sums[channel] = fmaf(weight, to_float(row[ROWS ? x : at]), sums[channel]);
        }
    }
#pragma unroll
    for (int channel = 0; channel < CHANNELS; ++channel)
        from_float(sums[channel], row_of(target, target_pitch, height, channel, y)[x]);
}
