// Rows of samples and elements: from and to memory in accesses as wide as alignment allows.

__device__ inline float to_float(float value) { return value; }
__device__ inline void from_float(float value, float& element) { element = value; }

template <int BYTES> struct Word;
template <> struct Word<1> { using Type = unsigned char; };
template <> struct Word<2> { using Type = unsigned short; };
template <> struct Word<4> { using Type = unsigned int; };
template <> struct Word<8> { using Type = uint2; };
template <> struct Word<16> { using Type = uint4; };

__device__ constexpr int least(int a, int b) { return a < b ? a : b; }
__device__ constexpr int most(int a, int b) { return a > b ? a : b; }
__device__ inline int within(int value, int size) { return value < 0 ? 0 : value < size ? value : size - 1; }

// What an address and all those a multiple of the pitch away are multiples of, in its lowest set bit.
template <class T> __device__ inline unsigned int grain_of(const T* address, long long pitch) {
    return (unsigned int)((unsigned long long)address | (unsigned long long)pitch);
}

template <class T> __device__ inline T* row_of(T* plane, long long pitch, int y) {
    return (T*)((unsigned char*)plane + pitch * y);
}

template <class T, int N, int BYTES> union Block {
    typename Word<BYTES>::Type words[N * sizeof(T) / BYTES];
    T items[N];
};

// The widest access for N items: they, or 16 bytes of them.
template <class T, int N> constexpr int WIDEST = least(N * (int)sizeof(T), 16);

// Fills `out` from `row`; that it is aligned must be known.
template <class T, int N> __device__ inline void load_block(const T* row, T (&out)[N]) {
    constexpr int BYTES = WIDEST<T, N>;
    Block<T, N, BYTES> block;
#pragma unroll
    for (int i = 0; i < N * (int)sizeof(T) / BYTES; ++i)
        block.words[i] = ((const typename Word<BYTES>::Type*)row)[i];
#pragma unroll
    for (int i = 0; i < N; ++i) out[i] = block.items[i];
}

template <int BYTES, class T, int N> __device__ inline void store_block(T* row, const T (&items)[N]) {
    Block<T, N, BYTES> block;
#pragma unroll
    for (int i = 0; i < N; ++i) block.items[i] = items[i];
#pragma unroll
    for (int i = 0; i < N * (int)sizeof(T) / BYTES; ++i) ((typename Word<BYTES>::Type*)row)[i] = block.words[i];
}

// N items from index `start` of a row of `size`.  WHOLE: all are there and aligned; else those past the end repeat the
// last.
template <bool WHOLE, class T, int N> __device__ inline void load(const T* row, int start, int size, T (&out)[N]) {
    if constexpr (WHOLE) {
        load_block(row + start, out);
    } else {
#pragma unroll
        for (int i = 0; i < N; ++i) out[i] = row[within(start + i, size)];
    }
}

// N items to index `start` of a row of `size`; those past its end are dropped.
template <class T, int N>
__device__ inline void store(T* row, int start, int size, unsigned int grain, const T (&items)[N]) {
    constexpr int WHOLE = WIDEST<T, N>, PART = least(WHOLE, 4);
    const bool complete = start + N <= size;
    if (complete && grain % WHOLE == 0) {
        store_block<WHOLE>(row + start, items);
        return;
    }
    if constexpr (PART < WHOLE && PART > (int)sizeof(T)) {
        if (complete && grain % PART == 0) {
            store_block<PART>(row + start, items);
            return;
        }
    }
#pragma unroll
    for (int i = 0; i < N; ++i)
        if (start + i < size) row[start + i] = items[i];
}

// The same; WHOLE: all are there and aligned.
template <bool WHOLE, class T, int N>
__device__ inline void put(T* row, int start, int size, unsigned int grain, const T (&items)[N]) {
    if constexpr (WHOLE)
        store_block<WIDEST<T, N>>(row + start, items);
    else
        store(row, start, size, grain, items);
}

// A line of a tensor's channel.
template <class T, int N>
__device__ inline void store_floats(T* row, int start, int size, unsigned int grain, const float (&values)[N]) {
    T items[N];
#pragma unroll
    for (int i = 0; i < N; ++i) from_float(values[i], items[i]);
    store(row, start, size, grain, items);
}

// The planes of a surface, component by component, and the channels of a tensor; pitches are in bytes.
template <class T> struct Planes {
    T* plane[3];
    long long pitch[3];

    __device__ T* row(int number, int y) const { return row_of(plane[number], pitch[number], y); }
    __device__ unsigned int grain(int number) const { return grain_of(plane[number], pitch[number]); }
};

template <class T> struct Channels {
    T* channel[3];
    long long pitch;

    __device__ T* row(int number, int y) const { return row_of(channel[number], pitch, y); }
    __device__ unsigned int grain() const {
        return grain_of(channel[0], pitch) | grain_of(channel[1], pitch) | grain_of(channel[2], pitch);
    }
};
