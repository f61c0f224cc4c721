// A convolution, 3 x 3, from activations of CHANNELS_IN to CHANNELS_OUT channels, as products of small matrices: pixels
// by channels.
//
// A block computes tiles of TILE_X x TILE_Y pixels, one below the other; each warp of it WARP_ROWS rows of 16 pixels and
// WARP_OUT channels.  Rows of the source are fetched into a ring, each once a strip of tiles, and a tile ahead.  Warps
// meet at barriers in shared memory and else run by themselves: one may be a tile ahead of another.
//
// Sources are of INPUT_BYTES each: fp16 or e4m3.  A slice is a column of the 3 x 3 and 32 bytes of channels in, 16 or 32
// of them, with the weights of its three rows.  What a warp reads of one row of pixels serves three rows of results.  Sums
// are made in the same order for every pixel, wherever it lies.  All weights stay in shared memory where it has room, and
// else go through a ring of stages, a step of STEP_SLICES slices each.
//
// In shared memory the 16-byte pieces of neighbouring pixels would meet in the same banks.  Piece number i of a row
// stands at i ^ KEY of its pixel: any eight neighbours lie in different banks.  Weights lie as if they were pixels of one
// slice's channels.  Where channels do not fill the last slice, zeros do.

constexpr int TILE_X = 16 * WARPS_X, TILE_Y = WARP_ROWS * WARPS_Y;
constexpr int WARPS = WARPS_X * WARPS_Y * WARPS_OUT, THREADS = 32 * WARPS;
constexpr int WARP_OUT = CHANNELS_OUT / WARPS_OUT, PRODUCTS = WARP_OUT / 8;
static_assert(PRODUCTS % 2 == 0, "weights are loaded for two products at once");

constexpr int PIXEL_BYTES = CHANNELS_IN * INPUT_BYTES, PIXEL_PIECES = PIXEL_BYTES / 16;
constexpr int DEPTHS = (PIXEL_BYTES + 31) / 32, PIECES = 2 * DEPTHS;
constexpr int ROW_PIECES = (TILE_X + 2) * PIECES, ROW_BYTES = 16 * ROW_PIECES;
constexpr int TILE_ROWS = TILE_Y + 2;
static_assert(RING_ROWS >= TILE_ROWS, "a tile's rows fit into the ring");

constexpr int STEPS = 3 * DEPTHS / STEP_SLICES;
static_assert(DEPTHS % STEP_SLICES == 0, "a step is of one column");
constexpr int SLICE_PIECES = 3 * CHANNELS_OUT * 2, SLICE_BYTES = 16 * SLICE_PIECES;
constexpr int STEP_PIECES = STEP_SLICES * SLICE_PIECES, STEP_BYTES = 16 * STEP_PIECES;
constexpr bool RESIDENT = WEIGHT_STAGES == STEPS;  // All weights stay.
constexpr int AHEAD = WEIGHT_STAGES / 2;  // Steps by which weights are fetched ahead; by the other stages warps may differ.

// Pixels lie PIECES apart, of which EVEN is the largest power of two, up to 8; they meet again after 8 / EVEN.
template <int PIECES> __device__ constexpr int key(int pixel) {
    constexpr int EVEN = PIECES % 8 == 0 ? 8 : PIECES % 4 == 0 ? 4 : 2;
    return pixel / (8 / EVEN) % EVEN;
}

struct Geometry {
    int height, width;
    int begin, end;  // The rows to compute.

    __device__ int tiles_down() const { return (end - begin + TILE_Y - 1) / TILE_Y; }
    __device__ int tiles() const { return (width + TILE_X - 1) / TILE_X * tiles_down(); }
};

// Tiles are counted down one strip after the other, and each block has a run of them.
struct Tile {
    int x, y;
    bool begins, ends;  // Whether it is the first or the last of the block's tiles in this strip.

    __device__ Tile(int number, int first, int last, const Geometry& picture) {
        const int down = picture.tiles_down(), strip = number / down, at = number - strip * down;
        x = strip * TILE_X;
        y = picture.begin + at * TILE_Y;
        begins = at == 0 || number == first;
        ends = at == down - 1 || number == last;
    }
};

// In shared memory.  Phases are numbered from 0, and of two kinds: what was fetched is there, and all warps are done with it.
struct Barriers {
    Shared base;

    static constexpr int COUNT = 4 + 2 * WEIGHT_STAGES;

    __device__ Shared tile_there(int number) const { return base + 8 * (number % 2); }
    __device__ Shared tile_done(int number) const { return base + 8 * (2 + number % 2); }
    __device__ Shared weights_there(int stage) const { return base + 8 * (4 + stage); }
    __device__ Shared weights_done(int stage) const { return base + 8 * (4 + WEIGHT_STAGES + stage); }

    __device__ void init() const {
        for (int i = 0; i < COUNT; ++i) {
            const bool done = i / 2 == 1 || i >= 4 + WEIGHT_STAGES;
            init_barrier(base + 8 * i, done ? WARPS : THREADS);
        }
    }
};

// A thread's share of what the block fetches.
struct Fetching {
    const char* source;
    const char* weights;
    Geometry picture;
    Barriers barriers;
    Shared ring, stages;
    int row_number = 0, step_number = 0;  // Fetched so far.

    // Of the rows that a tile needs beside those that it shares with the one above, `begin` to before `end`: from column
    // x - 1 on, zero where there is no picture.
    __device__ void rows(const Tile& tile, int begin, int end) {
        const int first = tile.y + begin + (tile.begins ? -1 : 1);
        const int from = tile.x == 0 ? PIECES : 0, to = min(TILE_X + 2, picture.width - tile.x + 1) * PIECES;
        const char* const start = source + ((long long)first * picture.width + tile.x - 1) * PIXEL_BYTES;
        const long long pitch = (long long)picture.width * PIXEL_BYTES;
#pragma unroll 2
        for (int i = threadIdx.x; i < (end - begin) * ROW_PIECES; i += THREADS) {
            const int row = i / ROW_PIECES, piece = i - row * ROW_PIECES;
            const int pixel = piece / PIECES, empty = PIECES - PIXEL_PIECES;
            const bool there = first + row >= 0 && first + row < picture.height && piece >= from && piece < to &&
                               (empty == 0 || piece - pixel * PIECES < PIXEL_PIECES);
            const Shared slot = ring + (row_number + row) % RING_ROWS * ROW_BYTES;
            copy_16_bytes(slot + 16 * (piece ^ key<PIECES>(pixel)),
                          there ? start + row * pitch + 16 * (piece - pixel * empty) : source, there);
        }
        row_number += end - begin;
    }

    __device__ static int rows_of(const Tile& tile) { return tile.begins ? TILE_ROWS : TILE_Y; }

    // The weights of the next step.
    __device__ void step() {
        const int stage = step_number % WEIGHT_STAGES, round = step_number / WEIGHT_STAGES;
        const int slice = step_number % STEPS * STEP_SLICES;
        ++step_number;
        if (round > 0) wait(barriers.weights_done(stage), round - 1);
        const char* const start = weights + slice / DEPTHS * (CHANNELS_OUT * PIXEL_BYTES) + slice % DEPTHS * 32;
        const Shared target = stages + stage * STEP_BYTES;
#pragma unroll
        for (int round = 0; round < (STEP_PIECES + THREADS - 1) / THREADS; ++round) {
            const int i = threadIdx.x + round * THREADS;
            if (i >= STEP_PIECES) break;
            const int depth = i / SLICE_PIECES, row = i % SLICE_PIECES / (2 * CHANNELS_OUT), place = i / 2 % CHANNELS_OUT;
            const int first = place / WARP_OUT * WARP_OUT;
            const int channel = first + (GATHERED ? feature_of<WARP_OUT>(place - first) : place - first);
            const int at = (row * 3 * CHANNELS_OUT + channel) * PIXEL_BYTES + depth * 32 + i % 2 * 16;
            const bool there = PIECES == PIXEL_PIECES || slice % DEPTHS + depth < DEPTHS - 1 || i % 2 == 0;
            copy_16_bytes(target + 16 * (i ^ key<2>(i / 2)), there ? start + at : weights, there);
        }
        arrive_after_own_copies(barriers.weights_there(stage));
    }
};

__device__ inline void product(float (&sums)[4], const unsigned int (&a)[4], unsigned int b0, unsigned int b1) {
    if constexpr (INPUT_BYTES == 2)
        multiply_add(sums, a, b0, b1);
    else
        multiply_add_e4m3(sums, a, b0, b1);
}

// A lane's sums: of row r and product p the pixels g and g + 8, two columns each.
using Sums = float[WARP_ROWS][PRODUCTS][4];

// A warp's share of what the block computes.
struct Computing {
    Barriers barriers;
    Shared ring, stages;
    const float* bias;
    int left, top, out;  // Pixels and channels of the warp begin there in the tile.
    int row_number = 0, step_number = 0;  // Done so far.

    __device__ Computing(Barriers barriers, Shared ring, Shared stages, const float* bias)
        : barriers(barriers), ring(ring), stages(stages), bias(bias) {
        const int warp = __shfl_sync(0xffffffff, threadIdx.x / 32, 0);
        left = warp % WARPS_X * 16;
        top = warp / WARPS_X % WARPS_Y * WARP_ROWS;
        out = warp / (WARPS_X * WARPS_Y) * WARP_OUT;
    }

    // Sums of e4m3 are scaled before the bias, which therefore is not here.
    __device__ void begin(Sums& sums) const {
#pragma unroll
        for (int p = 0; p < PRODUCTS; ++p) {
            const int column = 8 * p + threadIdx.x % 4 * 2;
            float2 start = {};
            if constexpr (INPUT_BYTES == 2)
                start = *(const float2*)(bias + out + (GATHERED ? feature_of<WARP_OUT>(column) : column));
#pragma unroll
            for (int r = 0; r < WARP_ROWS; ++r) {
                sums[r][p][0] = sums[r][p][2] = start.x;
                sums[r][p][1] = sums[r][p][3] = start.y;
            }
        }
    }

    // One slice; `rows` are the addresses of the warp's rows of pixels, `piece` of a lane's piece in them.
    __device__ static void slice(Sums& sums, const Shared (&rows)[WARP_ROWS + 2], Shared piece, Shared weights) {
        unsigned int pixels[WARP_ROWS + 2][4];
#pragma unroll
        for (int i = 0; i < WARP_ROWS + 2; ++i) load_matrices(pixels[i], rows[i] + piece);
#pragma unroll
        for (int ky = 0; ky < 3; ++ky) {
#pragma unroll
            for (int p = 0; p < PRODUCTS; p += 2) {
                unsigned int columns[4];
                load_matrices(columns, weights + (ky * CHANNELS_OUT + 8 * p) * 32);
#pragma unroll
                for (int r = 0; r < WARP_ROWS; ++r) {
                    product(sums[r][p], pixels[r + ky], columns[0], columns[1]);
                    product(sums[r][p + 1], pixels[r + ky], columns[2], columns[3]);
                }
            }
        }
    }

    // One tile; before each column fetch(column) is called, and before each step whose weights do not stay ahead().
    template <class Fetch, class Ahead> __device__ void tile(Sums& sums, const Fetch& fetch, const Ahead& ahead) {
        const int lane = threadIdx.x % 32;
        Shared rows[WARP_ROWS + 2];
#pragma unroll
        for (int i = 0; i < WARP_ROWS + 2; ++i) rows[i] = ring + (row_number + top + i) % RING_ROWS * ROW_BYTES;
        // Lanes name the rows of the matrices: of pixels 0 to 15 the lower 8 channels, then the upper; of columns 0 to 7
        // both halves, then of 8 to 15.
        const int column = lane % 8 + lane / 16 * 8;
        const Shared own_columns = stages + 16 * ((2 * column + lane / 8 % 2) ^ key<2>(column)) + out * 32;
#pragma unroll UNROLLED_COLUMNS
        for (int kx = 0; kx < 3; ++kx) {
            fetch(kx);
            const int pixel = left + kx + lane % 16;
            const int own = lane / 16 ^ key<PIECES>(pixel);
            int stage = 0;
#pragma unroll
            for (int depth = 0; depth < DEPTHS; ++depth) {
                const Shared piece = 16 * (pixel * PIECES + (own ^ 2 * depth));
                if constexpr (RESIDENT) {
                    slice(sums, rows, piece, own_columns + (kx * DEPTHS + depth) * SLICE_BYTES);
                } else {
                    if (depth % STEP_SLICES == 0) {
                        ahead();
                        stage = step_number % WEIGHT_STAGES;
                        wait(barriers.weights_there(stage), step_number / WEIGHT_STAGES);
                        ++step_number;
                    }
                    slice(sums, rows, piece, own_columns + stage * STEP_BYTES + depth % STEP_SLICES * SLICE_BYTES);
                    if (depth % STEP_SLICES == STEP_SLICES - 1) {
                        __syncwarp();
                        if (lane == 0) arrive(barriers.weights_done(stage));
                    }
                }
            }
        }
    }
};

// Convolves the rows that `picture` names, and gives each warp's sums to finish(sums, x, y, out): of WARP_ROWS rows from y
// on, 16 pixels from x on, WARP_OUT channels from `out` on; some may lie beyond the picture.
template <class Finish>
__device__ inline void convolve(unsigned char* shared, const void* source, const void* weights, const float* bias,
                                const Geometry& picture, const Finish& finish) {
    const Shared ring = shared_address(shared + RING_AT), stages = shared_address(shared + WEIGHTS_AT);
    const Barriers barriers = {shared_address(shared + BARRIERS_AT)};
    float* const own_bias = (float*)(shared + BIAS_AT);
    if (threadIdx.x == 0) barriers.init();
    for (int i = threadIdx.x; i < CHANNELS_OUT; i += THREADS) own_bias[i] = bias[i];
    __syncthreads();

    const long long tiles = picture.tiles();
    const int first = tiles * blockIdx.x / gridDim.x, last = tiles * (blockIdx.x + 1) / gridDim.x - 1;
    if (first > last) return;
    const int all_steps = RESIDENT ? STEPS : (last - first + 1) * STEPS;
    Fetching fetching = {(const char*)source, (const char*)weights, picture, barriers, ring, stages};
    Computing computing(barriers, ring, stages, own_bias);
    Tile tile(first, first, last, picture);
    fetching.rows(tile, 0, TILE_ROWS);
    arrive_after_own_copies(barriers.tile_there(0));
    for (int i = 0; i < (RESIDENT ? STEPS : AHEAD); ++i) fetching.step();
    if (RESIDENT)
        for (int i = 0; i < STEPS; ++i) wait(barriers.weights_there(i), 0);

#pragma unroll 1
    for (int number = 0; number <= last - first; ++number) {
        const bool is_last = number == last - first;
        const Tile next(min(first + number + 1, last), first, last, picture);
        // The next tile's rows take the places of those of the tile before, and where it begins a strip of two of this.
        const int rows = is_last ? 0 : Fetching::rows_of(next), early = min(rows, RING_ROWS - TILE_ROWS);
        Sums sums;
        computing.begin(sums);
        wait(barriers.tile_there(number), number / 2);
        computing.tile(
            sums,
            [&](int part) {
                if (is_last) return;
                if (part == 0 && number > 0) wait(barriers.tile_done(number - 1), (number - 1) / 2);
                fetching.rows(next, early * part / 3, early * (part + 1) / 3);
            },
            [&] {
                if (fetching.step_number < all_steps) fetching.step();
            });
        computing.row_number += tile.ends ? TILE_ROWS : TILE_Y;
        __syncwarp();
        if (threadIdx.x % 32 == 0) arrive(barriers.tile_done(number));
        if (!is_last) {
            if (early < rows) {
                wait(barriers.tile_done(number), number / 2);
                fetching.rows(next, early, rows);
            }
            arrive_after_own_copies(barriers.tile_there(number + 1));
        }
        finish(sums, tile.x + computing.left, tile.y + computing.top, computing.out);
        tile = next;
    }
    wait_for_own_copies();
}
