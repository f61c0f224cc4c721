// PTX instructions by name.  Those with effects in shared memory are volatile, so that none passes a barrier.

using Shared = unsigned int;  // An address in shared memory.

template <class T> __device__ inline Shared shared_address(const T* pointer) {
    return (Shared)__cvta_generic_to_shared(pointer);
}

// Copies 16 bytes to shared memory without waiting for them; writes zeros if they are not `there`.
__device__ inline void copy_16_bytes(Shared target, const void* source, bool there) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(target), "l"(source), "r"(there ? 16 : 0) : "memory");
}

__device__ inline void wait_for_own_copies() { asm volatile("cp.async.wait_all;" ::: "memory"); }

// Barriers in shared memory (mbarrier): a phase ends with the `count`th arrival, and the next one begins.
__device__ inline void init_barrier(Shared barrier, int count) {
    asm volatile("mbarrier.init.shared.b64 [%0], %1;" ::"r"(barrier), "r"(count) : "memory");
}

__device__ inline void arrive(Shared barrier) {
    asm volatile("{\n.reg .b64 state;\nmbarrier.arrive.shared.b64 state, [%0];\n}" ::"r"(barrier) : "memory");
}

// Arrives as soon as all copies that this thread has begun are done.
__device__ inline void arrive_after_own_copies(Shared barrier) {
    asm volatile("cp.async.mbarrier.arrive.noinc.shared.b64 [%0];" ::"r"(barrier) : "memory");
}

__device__ inline bool has_ended(Shared barrier, int phase) {
    unsigned int ended;
#if __CUDA_ARCH__ >= 900
    asm volatile(
        "{\n.reg .pred ended;\nmbarrier.try_wait.parity.shared.b64 ended, [%1], %2;\nselp.u32 %0, 1, 0, ended;\n}"
        : "=r"(ended) : "r"(barrier), "r"(phase & 1) : "memory");
#else
    asm volatile(
        "{\n.reg .pred ended;\nmbarrier.test_wait.parity.shared.b64 ended, [%1], %2;\nselp.u32 %0, 1, 0, ended;\n}"
        : "=r"(ended) : "r"(barrier), "r"(phase & 1) : "memory");
#endif
    return ended;
}

// Waits until phase number `phase`, counted from 0, has ended; the one after it must not have.
__device__ inline void wait(Shared barrier, int phase) {
    while (!has_ended(barrier, phase)) {
    }
}

// Four matrices of 8 x 8 halves, whose rows of 16 bytes lie where lanes 8 i to 8 i + 7 say for matrix i.
__device__ inline void load_matrices(unsigned int (&matrices)[4], Shared row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(matrices[0]), "=r"(matrices[1]), "=r"(matrices[2]), "=r"(matrices[3]) : "r"(row));
}

// sums (16 x 8) += a (16 x 16, by rows) * b (16 x 8, by columns).
__device__ inline void multiply_add(float (&sums)[4], const unsigned int (&a)[4], unsigned int b0, unsigned int b1) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// The same of e4m3: a (16 x 32), b (32 x 8).  From compute capability 8.9 on.
__device__ inline void multiply_add_e4m3(float (&sums)[4], const unsigned int (&a)[4], unsigned int b0, unsigned int b1) {
    asm("mma.sync.aligned.m16n8k32.row.col.f32.e4m3.e4m3.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// Two halves, each rounded to nearest even; `low` at the lower address.
__device__ inline unsigned int halves(float low, float high) {
    unsigned int pair;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
    return pair;
}
