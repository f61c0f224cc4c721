// sm_90a's own instructions, a function each: barriers in shared memory, the copy engine (TMA), the warpgroup's matrix
// product (wgmma).  Addresses of shared memory are 32 bits wide in all of them.

using u16 = unsigned short;
using u32 = unsigned int;
using u64 = unsigned long long;

// CUtensorMap: what the copy engine is told of an array in global memory.  The driver makes it on the host.
struct alignas(64) TensorMap {
    unsigned char opaque[128];
};

__device__ inline u32 shared_address(const void* pointer) {
    return (u32)__cvta_generic_to_shared(pointer);
}

// --- Barriers in shared memory: 8 bytes each.  A phase ends when all have arrived and all announced bytes are there.

__device__ inline void barrier_begin(u32 barrier, int arrivals) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(arrivals) : "memory");
}

// Makes barriers that were begun known to the copy engine.
__device__ inline void barriers_begun() {
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}

__device__ inline void barrier_arrive(u32 barrier) {
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory");
}

__device__ inline void barrier_arrive_expecting(u32 barrier, int bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes) : "memory");
}

// Until the phase of this parity has ended.
__device__ inline void barrier_wait(u32 barrier, int parity) {
    asm volatile(
        "{\n"
        ".reg .pred ended;\n"
        "AGAIN:\n"
        "mbarrier.try_wait.parity.shared::cta.b64 ended, [%0], %1;\n"
        "@!ended bra AGAIN;\n"
        "}" ::"r"(barrier),
        "r"(parity)
        : "memory");
}

// Whether it has, without waiting.
__device__ inline bool barrier_has_ended(u32 barrier, int parity) {
    u32 ended;
    asm volatile(
        "{\n"
        ".reg .pred ended;\n"
        "mbarrier.test_wait.parity.shared::cta.b64 ended, [%1], %2;\n"
        "selp.u32 %0, 1, 0, ended;\n"
        "}" : "=r"(ended)
        : "r"(barrier), "r"(parity)
        : "memory");
    return ended;
}

// --- Barriers of the block, by number, for `threads` threads: whoever waits, and whoever only arrives.

__device__ inline void block_wait(int number, int threads) {
    asm volatile("bar.sync %0, %1;" ::"r"(number), "r"(threads) : "memory");
}

__device__ inline void block_arrive(int number, int threads) {
    asm volatile("bar.arrive %0, %1;" ::"r"(number), "r"(threads) : "memory");
}

// --- The copy engine.  A box's first element is (channel, x, y); what lies outside the array is read as zero and not
// written.

__device__ inline void load_box(u32 target, const TensorMap* map, u32 barrier, int channel, int x, int y) {
    asm volatile(
        "cp.async.bulk.tensor.3d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4, %5}], [%2];"
        ::"r"(target), "l"(map), "r"(barrier), "r"(channel), "r"(x), "r"(y)
        : "memory");
}

__device__ inline void store_box(const TensorMap* map, u32 source, int channel, int x, int y) {
    asm volatile("cp.async.bulk.tensor.3d.global.shared::cta.tile.bulk_group [%0, {%2, %3, %4}], [%1];"
                 "\ncp.async.bulk.commit_group;" ::"l"(map),
                 "r"(source), "r"(channel), "r"(x), "r"(y)
                 : "memory");
}

// Until the calling thread's stores have read their source.
__device__ inline void stores_read() {
    asm volatile("cp.async.bulk.wait_group.read 0;" ::: "memory");
}

// Until they have been written.
__device__ inline void stores_done() {
    asm volatile("cp.async.bulk.wait_group 0;" ::: "memory");
}

// What the calling thread read or wrote in shared memory comes before what the copy engine is told to do from now on.
__device__ inline void before_copy_engine() {
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

__device__ inline void fetch_map(const TensorMap* map) {
    asm volatile("prefetch.tensormap [%0];" ::"l"(map) : "memory");
}

// --- Registers, of a whole warpgroup.

template <int REGISTERS>
__device__ inline void give_up_registers() {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(REGISTERS));
}

template <int REGISTERS>
__device__ inline void take_registers() {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(REGISTERS));
}

// --- 8 x 8 matrices of 16-bit units.  Each thread holds two neighbours of a row of each of four matrices; lane i gives the
// address of 16 bytes: row i % 8 of matrix i / 8, or where its column goes that is stored.

__device__ inline void load_matrices(u32 (&matrices)[4], u32 address) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(matrices[0]), "=r"(matrices[1]), "=r"(matrices[2]), "=r"(matrices[3])
                 : "r"(address)
                 : "memory");
}

__device__ inline void store_transposed(u32 address, const u32 (&matrices)[4]) {
    asm volatile("stmatrix.sync.aligned.m8n8.x4.trans.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(address),
                 "r"(matrices[0]), "r"(matrices[1]), "r"(matrices[2]), "r"(matrices[3])
                 : "memory");
}

// --- The warpgroup's matrix product: 64 rows from registers, 128 columns from shared memory, sums in registers.
// Thread t holds of the sums, for its warp w = t / 32 and lane = t % 32, rows 16 * w + lane / 4 (elements 4 * j and
// 4 * j + 1) and 8 rows further (4 * j + 2 and 4 * j + 3), columns 8 * j + 2 * (lane % 4) and the next.

constexpr int WARPGROUP = 128;
constexpr int SUMS = 64;

__device__ inline void products_begin() {
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}

__device__ inline void products_committed() {
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}

// Until at most `GROUPS` committed groups are under way.
template <int GROUPS>
__device__ inline void products_wait() {
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(GROUPS) : "memory");
}

// Keeps the compiler from reading sums before the wait that precedes this.
__device__ inline void sums_are_there(float (&sums)[SUMS]) {
#pragma unroll
    for (int i = 0; i < SUMS; ++i) asm volatile("" : "+f"(sums[i])::"memory");
}

// How the product finds 128 columns ("pixels") of 32 bytes in shared memory: they lie `pixel_bytes` apart, 32, 64 or
// 128, which is also the span that is swizzled.  It may begin with any pixel: the swizzle goes by the address.
__device__ inline u64 columns_at(u32 address, int pixel_bytes) {
    const u64 eight_pixels = 8 * pixel_bytes / 16;
    const u64 swizzle = pixel_bytes == 128 ? 1 : pixel_bytes == 64 ? 2 : 3;
    return (u64)((address & 0x3FFFF) >> 4) | (1ull << 16) | (eight_pixels << 32) | (swizzle << 62);
}

// Where 16 bytes lie that an unswizzled array would have `offset` bytes from its beginning, which is aligned to 1024.
__device__ inline u32 swizzled(u32 offset, int pixel_bytes) {
    return offset ^ ((offset >> 3) & (pixel_bytes - 16));
}

#define SUMS_4(i) "+f"(sums[i]), "+f"(sums[i + 1]), "+f"(sums[i + 2]), "+f"(sums[i + 3])
#define SUMS_16(i) SUMS_4(i), SUMS_4(i + 4), SUMS_4(i + 8), SUMS_4(i + 12)
#define PRODUCT(NAME, FLAGS)                                                                                     \
    asm volatile(                                                                                                \
        "{\n"                                                                                                    \
        ".reg .pred added;\n"                                                                                    \
        "setp.ne.b32 added, %69, 0;\n" NAME                                                                      \
        " {%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "                               \
        "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "                       \
        "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "                       \
        "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63}, "                      \
        "{%64, %65, %66, %67}, %68, added, " FLAGS                                                               \
        ";\n"                                                                                                    \
        "}"                                                                                                      \
        : SUMS_16(0), SUMS_16(16), SUMS_16(32), SUMS_16(48)                                                      \
        : "r"(rows[0]), "r"(rows[1]), "r"(rows[2]), "r"(rows[3]), "l"(columns), "r"((int)added))

// 32 bytes of each row times 32 bytes of each column, added to the sums or in their place.  The compiler must find
// nothing else done with the sums until they have been waited for.
__device__ inline void multiply_fp16(float (&sums)[SUMS], const u32 (&rows)[4], u64 columns, bool added) {
    PRODUCT("wgmma.mma_async.sync.aligned.m64n128k16.f32.f16.f16", "1, 1, 0");
}

__device__ inline void multiply_e4m3(float (&sums)[SUMS], const u32 (&rows)[4], u64 columns, bool added) {
    PRODUCT("wgmma.mma_async.sync.aligned.m64n128k32.f32.e4m3.e4m3", "1, 1");
}

// --- Numbers.

// Two floats rounded to nearest even; `low` has the lower address.
__device__ inline u32 two_halves(float low, float high) {
    u32 packed;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(packed) : "f"(high), "f"(low));
    return packed;
}
