// How the wgmma kernels walk through a picture; see docs/compact.md for a drawing.
//
// The picture is cut into strips WIDTH pixels wide, and each strip, from the first row wanted on, into units of ROWS rows
// of outputs.  A block takes a run of units, one after the other down a strip and then down the next, as many as any
// other block.  With a HALO strips overlap by twice as many pixels, and each strip's part of a run has as many units more
// at either end: what is computed there is not the block's, and its own results depend on it.  With an OVERLAP strips
// begin as many pixels earlier, which are not theirs either.  One thread of its third warpgroup loads boxes of ROWS rows
// of inputs into a ring of slots; the other two warpgroups multiply, by turns.  Weights stay in registers for the whole
// run.
//
// Before this text: CHANNELS that a warpgroup takes in, ITEM_BYTES of an activation, INPUT_PIXEL bytes that they take in
// shared memory, OUTPUTS that a block computes, ROWS of a unit, HALO, OVERLAP, SLOTS of a ring, and MULTIPLY.

constexpr int WIDTH = 128;         // pixels of a strip: the columns of a product
constexpr int BOX_WIDTH = 136;     // pixels of a box: the strip, one on either side, and on to a multiple of eight
constexpr int GROUPS = 2;          // warpgroups that multiply
constexpr int MULTIPLYING = GROUPS * WARPGROUP, THREADS = MULTIPLYING + WARPGROUP;
constexpr int STEP_BYTES = 32;     // of a pixel, that one product takes in
constexpr int STEPS = (CHANNELS * ITEM_BYTES + STEP_BYTES - 1) / STEP_BYTES;
constexpr int TAP_ROWS = ROWS + 2;
constexpr int PRODUCTS = TAP_ROWS * 3 * STEPS;
constexpr int OF_EACH_ROW = SUMS / ROWS;       // rows of a product for each row of outputs
constexpr int SLOT_BYTES = ROWS * BOX_WIDTH * INPUT_PIXEL;
constexpr int MARGIN = (2 + ROWS - 1) / ROWS;  // slots that a unit needs beside its first
constexpr int WEIGHT_BYTES = 9 * OUTPUTS * INPUT_PIXEL;
constexpr int WEIGHT_SLOT = SLOTS - (WEIGHT_BYTES + SLOT_BYTES - 1) / SLOT_BYTES;  // where weights lie at first
constexpr int IN_FLIGHT = 4;       // products that are not done yet when a warpgroup passes the turn on
constexpr int FETCHING_REGISTERS = 24, MULTIPLYING_REGISTERS = 240;

static_assert(HALO == 0 || ROWS == 1, "a halo is counted in rows and in pixels");
static_assert(STEPS * STEP_BYTES <= INPUT_PIXEL && OUTPUTS <= OF_EACH_ROW && OUTPUTS % 16 == 0, "products are whole");
static_assert(SLOT_BYTES % (8 * INPUT_PIXEL) == 0, "swizzles begin anew");
static_assert(WEIGHT_SLOT >= 0, "the weights fit into the ring");

// Barriers of the block by number, some of them a number for each group.
enum { WHOLE_BLOCK, OF_GROUP, TURN_OF_GROUP = OF_GROUP + GROUPS, HANDED_OVER = TURN_OF_GROUP + GROUPS, TAKEN_OVER, HANDED_ON };

// Which units a block has, as numbers down one strip and then down the next, and where they lie.
struct Work {
    int first, last;       // before `last`; those of halos are numbered along
    int first_row;         // of all strips
    int units_down;        // of each strip, without its halo

    // The share of block `block` of `blocks`.
    __device__ Work(int first_row, int units_down, int strips, int block, int blocks)
        : first_row(first_row), units_down(units_down) {
        const long long units = (long long)units_down * strips;
        first = (int)(units * block / blocks);
        last = (int)(units * (block + 1) / blocks);
        last += 2 * HALO * ((last - 1) / units_down - first / units_down + 1);
    }
};

// A unit, and the slot where its inputs begin, counted from the block's first.
struct Unit {
    int number, strip, down, slot;

    __device__ explicit Unit(const Work& work)
        : number(work.first), strip(work.first / work.units_down), down(work.first % work.units_down - HALO), slot(0) {}

    // The next strip's inputs do not overlap with those of the strip before.
    __device__ void advance(const Work& work) {
        ++number;
        ++slot;
        if (++down == work.units_down + HALO) {
            down = -HALO;
            ++strip;
            slot += MARGIN;
        }
    }

    // How many units of its strip the block takes before it, and from it on.
    __device__ int before(const Work& work) const {
        return min(number - work.first, down + HALO);
    }

    __device__ int from_here(const Work& work) const {
        return min(work.last - number, work.units_down + HALO - down);
    }

    __device__ int x() const {
        return strip * (WIDTH - 2 * HALO - OVERLAP) - HALO - OVERLAP;
    }

    __device__ int y(const Work& work) const {
        return work.first_row + down * ROWS;
    }
};

// Slots in shared memory.  A slot is full once its box has come, and empty once the warpgroups that read it are done.
// From WEIGHT_SLOT on they hold the weights at first, until these are in registers.
struct Ring {
    static constexpr int BYTES = SLOTS * SLOT_BYTES;
    static constexpr int BARRIER_BYTES = (2 * SLOTS + 2) * 8;

    u32 slots, barriers;

    __device__ u32 slot(int number) const {
        return slots + number % SLOTS * SLOT_BYTES;
    }

    __device__ u32 full(int number) const {
        return barriers + number % SLOTS * 8;
    }

    __device__ u32 empty(int number) const {
        return barriers + (SLOTS + number % SLOTS) * 8;
    }

    __device__ u32 weights_full() const {
        return barriers + 2 * SLOTS * 8;
    }

    __device__ u32 weights_empty() const {
        return weights_full() + 8;
    }

    __device__ void begin(int readers) const {
        for (int i = 0; i < SLOTS; ++i) {
            barrier_begin(full(i), 1);
            barrier_begin(empty(i), readers);
        }
        barrier_begin(weights_full(), 1);
        barrier_begin(weights_empty(), readers);
    }

    __device__ void wait_full(int number) const {
        barrier_wait(full(number), number / SLOTS & 1);
    }

    __device__ bool is_full(int number) const {
        return barrier_has_ended(full(number), number / SLOTS & 1);
    }

    // By one thread of each warpgroup that reads it, for every slot in order.
    __device__ void release(int number) const {
        barrier_arrive(empty(number));
    }

    // By one thread of the block.
    __device__ void fill(int number, const TensorMap* input, int channel, int x, int y) const {
        if (number == WEIGHT_SLOT) barrier_wait(weights_empty(), 0);
        if (number >= SLOTS) barrier_wait(empty(number), number / SLOTS - 1 & 1);
        barrier_arrive_expecting(full(number), SLOT_BYTES);
        load_box(slot(number), input, full(number), channel, x, y);
    }

    // By the same thread, ahead of all others.
    __device__ void fill_with_weights(const TensorMap* weights, int input, int output) const {
        barrier_arrive_expecting(weights_full(), WEIGHT_BYTES);
        load_box(slot(WEIGHT_SLOT), weights, weights_full(), input, output, 0);
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

// The thread of a warpgroup that tells the copy engine what to load or store, and passes slots on: of its last warp, since
// the first one has most to do.
__device__ inline bool is_steward() {
    return threadIdx.x % WARPGROUP == WARPGROUP - 32;
}

// The whole block; `readers` is how many warpgroups read each ring.
template <int RINGS>
__device__ inline void begin(
    const Ring (&rings)[RINGS], int readers, const TensorMap& input, const TensorMap& weights) {
    if (threadIdx.x == 0) {
        fetch_map(&weights);
        fetch_map(&input);
        for (int i = 0; i < RINGS; ++i) rings[i].begin(readers);
        barriers_begun();
    }
    block_wait(WHOLE_BLOCK, THREADS);
}

// By the third warpgroup: the weights from `first_output` on, and all boxes that the block's units need in their order,
// CHANNELS into each of the rings.
template <int RINGS>
__device__ inline void fetch(
    const Work& work, const Ring (&rings)[RINGS], const TensorMap* input, const TensorMap* weights, int first_output) {
    if (!is_steward()) return;
#pragma unroll
    for (int i = 0; i < RINGS; ++i) rings[i].fill_with_weights(weights, i * CHANNELS, first_output);
    int slot = 0;
    for (Unit unit(work); unit.number < work.last;) {
        const int here = unit.from_here(work);
        for (int i = 0; i < here + MARGIN; ++i, ++slot)
#pragma unroll
            for (int ring = 0; ring < RINGS; ++ring)
                rings[ring].fill(slot, input, ring * CHANNELS, unit.x() - 1, unit.y(work) - 1 + i * ROWS);
        for (int i = 0; i < here; ++i) unit.advance(work);
    }
}

using Weights = u32[PRODUCTS][4];

// The weights of a warpgroup's 64 rows of a product.  Row m is output m % OF_EACH_ROW of the unit's row m / OF_EACH_ROW;
// rows without an output, and taps that are not of their row of outputs, are zero.  Of the 16 rows of the calling warp
// `product_row(i, half)` says which is the i-th of eight of either half: a thread's sums are of i = lane / 4.
template <class ProductRow>
__device__ inline void load_weights(Weights& weights, const Ring& ring, int group, ProductRow product_row) {
    const int lane = threadIdx.x % 32, first_row = threadIdx.x % WARPGROUP / 32 * 16;
    const int output = product_row(lane % 8, lane / 8 % 2) % OF_EACH_ROW, down = first_row / OF_EACH_ROW;
    const bool has_outputs = first_row % OF_EACH_ROW < OUTPUTS;
    barrier_wait(ring.weights_full(), 0);
#pragma unroll
    for (int i = 0; i < PRODUCTS; ++i) {
        const int step = i % STEPS, tap_column = i / STEPS % 3, tap_row = i / STEPS / 3 - down;
        const int pixel = (tap_row * 3 + tap_column) * OUTPUTS + output;
        const u32 offset = swizzled(pixel * INPUT_PIXEL + step * STEP_BYTES + lane / 16 * 16, INPUT_PIXEL);
        if (has_outputs && tap_row >= 0 && tap_row < 3)
            load_matrices(weights[i], ring.slot(WEIGHT_SLOT) + offset);
        else
            for (int j = 0; j < 4; ++j) weights[i][j] = 0;
    }
    before_copy_engine();
    block_wait(OF_GROUP + group, WARPGROUP);
    if (is_steward()) barrier_arrive(ring.weights_empty());
}

// Where a unit's inputs lie: its slots.
struct Inputs {
    u32 slots[1 + MARGIN];

    // The compiler must not put it off until there is nothing else to do.
    __device__ void find(const Ring& ring, const Unit& unit) {
#pragma unroll
        for (int i = 0; i <= MARGIN; ++i) {
            slots[i] = ring.slot(unit.slot + i);
            asm volatile("" : "+r"(slots[i]));
        }
    }
};

// The sums of one unit, by a warpgroup whose turn it is; passes the turn on to `next`, if there is one.
__device__ inline void convolve(float (&sums)[SUMS], const Weights& weights, const Inputs& inputs, int next) {
    u64 rows[TAP_ROWS];
#pragma unroll
    for (int i = 0; i < TAP_ROWS; ++i)
        rows[i] = columns_at(inputs.slots[i / ROWS] + i % ROWS * BOX_WIDTH * INPUT_PIXEL, INPUT_PIXEL);
    products_begin();
#pragma unroll
    for (int i = 0; i < PRODUCTS; ++i) {
        const int step = i % STEPS, tap_column = i / STEPS % 3, tap_row = i / STEPS / 3;
        const u64 columns = rows[tap_row] + (tap_column * INPUT_PIXEL + step * STEP_BYTES) / 16;
        MULTIPLY(sums, weights[i], columns, i > 0);
        if (i == PRODUCTS - 1 - IN_FLIGHT) products_committed();
    }
    products_committed();
    products_wait<1>();
    if (next >= 0) block_arrive(TURN_OF_GROUP + next, MULTIPLYING);
    products_wait<0>();
    sums_are_there(sums);
}

// By a warpgroup that reads `ring`.
__device__ inline void wait_for(const Ring& ring, const Unit& unit) {
#pragma unroll
    for (int i = 0; i <= MARGIN; ++i) ring.wait_full(unit.slot + i);
}

// Whether it need not wait.  Asked when the warpgroup is done with the unit two before, of a ring that holds the inputs of
// two: what lay in these slots last had all come by then, so that no parity is that of two phases before.
__device__ inline bool have_come(const Ring& ring, const Unit& unit) {
    bool all = true;
#pragma unroll
    for (int i = 0; i <= MARGIN; ++i) all &= ring.is_full(unit.slot + i);
    return all;
}

// By one of its threads, when the whole warpgroup is done with a unit that began at `slot`, or before its first with 0:
// what lies before `next`, its next unit, it will not read again.  After its last unit nobody waits for its slots.
__device__ inline void release(const Ring& ring, int slot, const Unit& next, const Work& work) {
    if (is_steward() && next.number < work.last)
        for (; slot < next.slot; ++slot) ring.release(slot);
}
