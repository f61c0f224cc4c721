// How the wgmma kernels walk through a picture; see docs/compact.md for a drawing.
//
// The picture is cut into strips WIDTH pixels wide, and each strip, from the first row wanted on, into units of ROWS rows
// of outputs.  A block takes a run of units, one after the other down a strip and then down the next, as many as any
// other block.  One thread of its third warpgroup loads boxes of ROWS rows of inputs into a ring of slots; the other two
// warpgroups multiply, by turns.  Weights stay in registers for the whole run.
//
// Before this text: CHANNELS that a warpgroup takes in, ELEMENT_BYTES of each, PIXEL_BYTES that they take in shared
// memory, ROWS of a unit, SLOTS of a ring, and MULTIPLY.

constexpr int WIDTH = 128;         // pixels of a strip: the columns of a product
constexpr int BOX_WIDTH = 136;     // pixels of a box: the strip, one on either side, and on to a multiple of eight
constexpr int GROUPS = 2;          // warpgroups that multiply
constexpr int MULTIPLYING = GROUPS * WARPGROUP, THREADS = MULTIPLYING + WARPGROUP;
constexpr int STEP_BYTES = 32;     // of a pixel, that one product takes in
constexpr int STEPS = CHANNELS * ELEMENT_BYTES / STEP_BYTES;
constexpr int TAP_ROWS = ROWS + 2;
constexpr int PRODUCTS = TAP_ROWS * 3 * STEPS;
constexpr int SLOT_BYTES = ROWS * BOX_WIDTH * PIXEL_BYTES;
constexpr int MARGIN = (2 + ROWS - 1) / ROWS;  // slots that a unit needs beside its first
constexpr int IN_FLIGHT = 4;       // products that are not done yet when a warpgroup passes the turn on
constexpr int FETCHING_REGISTERS = 24, MULTIPLYING_REGISTERS = 240;

static_assert(CHANNELS * ELEMENT_BYTES % STEP_BYTES == 0 && CHANNELS * ELEMENT_BYTES <= PIXEL_BYTES, "whole steps");
static_assert(SLOT_BYTES % (8 * PIXEL_BYTES) == 0, "swizzles begin anew");

// Barriers of the block by number, some of them a number for each group.
enum { WHOLE_BLOCK, OF_GROUP, TURN_OF_GROUP = OF_GROUP + GROUPS, HANDED_OVER = TURN_OF_GROUP + GROUPS, TAKEN_OVER };

// Which units a block has, as numbers down one strip and then down the next, and where they lie.
struct Work {
    int first, last;       // before `last`
    int first_row;         // of all strips
    int units_down;        // of each strip

    // The share of block `block` of `blocks`.
    __device__ Work(int first_row, int units_down, int strips, int block, int blocks)
        : first_row(first_row), units_down(units_down) {
        const long long units = (long long)units_down * strips;
        first = (int)(units * block / blocks);
        last = (int)(units * (block + 1) / blocks);
    }
};

// A unit, and the slot where its inputs begin, counted from the block's first.
struct Unit {
    int number, strip, down, slot;

    __device__ explicit Unit(const Work& work)
        : number(work.first), strip(work.first / work.units_down), down(work.first % work.units_down), slot(0) {}

    // The next strip's inputs do not overlap with those of the strip before.
    __device__ void advance(const Work& work) {
        ++number;
        ++slot;
        if (++down == work.units_down) {
            down = 0;
            ++strip;
            slot += MARGIN;
        }
    }

    __device__ int x() const {
        return strip * WIDTH;
    }

    __device__ int y(const Work& work) const {
        return work.first_row + down * ROWS;
    }
};

// Slots in shared memory.  A slot is full once its box has come, and empty once the warpgroups that read it are done.
struct Ring {
    u32 slots, full, empty;

    static constexpr int BYTES = SLOTS * SLOT_BYTES;
    static constexpr int BARRIER_BYTES = SLOTS * 2 * 8;

    __device__ Ring(u32 slots, u32 barriers) : slots(slots), full(barriers), empty(barriers + SLOTS * 8) {}

    __device__ u32 slot(int number) const {
        return slots + number % SLOTS * SLOT_BYTES;
    }

    __device__ void begin(int readers) const {
        for (int i = 0; i < SLOTS; ++i) {
            barrier_begin(full + 8 * i, 1);
            barrier_begin(empty + 8 * i, readers);
        }
    }

    __device__ void wait_full(int number) const {
        barrier_wait(full + number % SLOTS * 8, number / SLOTS & 1);
    }

    // By one thread of each warpgroup that reads it, for every slot in order.
    __device__ void release(int number) const {
        barrier_arrive(empty + number % SLOTS * 8);
    }

    // By one thread of the block.
    __device__ void fill(int number, const TensorMap* input, int channel, int x, int y) const {
        if (number >= SLOTS) barrier_wait(empty + number % SLOTS * 8, number / SLOTS - 1 & 1);
        barrier_arrive_expecting(full + number % SLOTS * 8, SLOT_BYTES);
        load_box(slot(number), input, full + number % SLOTS * 8, channel, x, y);
    }
};

// Where the block's shared memory begins to be aligned as all swizzles want it.
__device__ inline u32 aligned_memory() {
    extern __shared__ unsigned char memory[];
    return (shared_address(memory) + 1023) / 1024 * 1024;
}

// Which warpgroup the thread is of: 0 and 1 multiply, 2 loads.  The shuffle lets the compiler know that it is the same
// for the whole warp.
__device__ inline int group_of_thread() {
    return __shfl_sync(0xffffffff, threadIdx.x / WARPGROUP, 0);
}

// The whole block; `readers` is how many warpgroups read each ring.
template <int RINGS>
__device__ inline void begin(const Ring (&rings)[RINGS], int readers, const TensorMap& input) {
    if (threadIdx.x == 0) {
        fetch_map(&input);
        for (int i = 0; i < RINGS; ++i) rings[i].begin(readers);
        barriers_begun();
        let_next_kernel_begin();
    }
    block_wait(WHOLE_BLOCK, THREADS);
}

// By the third warpgroup: all boxes that the block's units need, in their order, the same of all channels into each of
// the rings.  Whoever has waited for one of them may also touch whatever else the kernels before this one used.
template <int RINGS>
__device__ inline void fetch(const Work& work, const Ring (&rings)[RINGS], const TensorMap* input) {
    if (threadIdx.x % WARPGROUP > 0) return;
    wait_for_previous_kernel();
    int slot = 0;
    for (Unit unit(work); unit.number < work.last;) {
        const int here = min(work.last - unit.number, work.units_down - unit.down);
        for (int i = 0; i < here + MARGIN; ++i, ++slot)
#pragma unroll
            for (int ring = 0; ring < RINGS; ++ring)
                rings[ring].fill(slot, input, ring * CHANNELS, unit.x() - 1, unit.y(work) - 1 + i * ROWS);
        for (int i = 0; i < here; ++i) unit.advance(work);
    }
}

using Weights = u32[PRODUCTS][4];

// The weights of a warpgroup's 64 rows, from [tap][output][input] of `outputs` and `inputs` each, where `source` is the
// first of the outputs and inputs that it computes.  Row m of the product is output m % (SUMS / ROWS), there are `rows` of
// them, of the unit's row m / (SUMS / ROWS); `product_row` says which of the 64 the thread's two rows are.
template <class ProductRow>
__device__ inline void load_weights(
    Weights& weights, const unsigned char* source, int outputs, int inputs, int rows, ProductRow product_row) {
    constexpr int OF_EACH_ROW = SUMS / ROWS;
    const int column = threadIdx.x % 4 * 4;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
        const int output = product_row(half) % OF_EACH_ROW, down = product_row(half) / OF_EACH_ROW;
#pragma unroll
        for (int i = 0; i < PRODUCTS; ++i) {
            const int step = i % STEPS, tap_column = i / STEPS % 3, tap_row = i / STEPS / 3 - down;
            const bool is_there = output < rows && tap_row >= 0 && tap_row < 3;
            const int pixel = (tap_row * 3 + tap_column) * outputs + output;
            const unsigned char* const at = source + pixel * inputs * ELEMENT_BYTES + step * STEP_BYTES + column;
            weights[i][half] = is_there ? *(const u32*)at : 0;
            weights[i][half + 2] = is_there ? *(const u32*)(at + STEP_BYTES / 2) : 0;
        }
    }
}

// The sums of one unit, by a warpgroup whose turn it is; passes the turn on to `next`, if there is one.
__device__ inline void convolve(
    float (&sums)[SUMS], const Weights& weights, const Ring& ring, const Unit& unit, int next) {
    u64 rows[TAP_ROWS];
#pragma unroll
    for (int i = 0; i < TAP_ROWS; ++i)
        rows[i] = columns_at(ring.slot(unit.slot + i / ROWS) + i % ROWS * BOX_WIDTH * PIXEL_BYTES, PIXEL_BYTES);
    products_begin();
#pragma unroll
    for (int i = 0; i < PRODUCTS; ++i) {
        const int step = i % STEPS, tap_column = i / STEPS % 3, tap_row = i / STEPS / 3;
        const u64 columns = rows[tap_row] + (tap_column * PIXEL_BYTES + step * STEP_BYTES) / 16;
        MULTIPLY(sums, weights[i], columns, i > 0);
        if (i == PRODUCTS - 1 - IN_FLIGHT) products_committed();
    }
    products_committed();
    products_wait<1>();
    if (next >= 0) block_arrive(TURN_OF_GROUP + next, MULTIPLYING);
    products_wait<0>();
    sums_are_there(sums);
}

// A warpgroup's place in a ring that it reads.
struct Reader {
    const Ring& ring;
    int released = 0;

    __device__ void wait_for(const Unit& unit) const {
#pragma unroll
        for (int i = 0; i <= MARGIN; ++i) ring.wait_full(unit.slot + i);
    }

    // By one thread, once the whole warpgroup has read what lies before `next`, its next unit.  After its last unit nobody
    // waits for its slots.
    __device__ void release_before(const Unit& next, const Work& work) {
        if (next.number < work.last)
            for (; released < next.slot; ++released) ring.release(released);
    }
};

