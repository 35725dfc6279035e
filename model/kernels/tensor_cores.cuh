// Tensor cores and asynchronous copies: one function for each PTX instruction, and beside it what the instruction does, for
// the CPU, with the layout of its fragments as the PTX manual gives it (mma.m16n8k16, ldmatrix). Needs sm_80.
#pragma once
#include "common.cuh"

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 800
#define HAS_TENSOR_CORES 0
#else
#define HAS_TENSOR_CORES 1
#endif

// Two values of 16 bits in a register, the first one low.
__device__ __forceinline__ uint32_t bits_of(f16 low, f16 high) {
    Vector<f16, 2> both = {{low, high}};
    return *reinterpret_cast<uint32_t*>(&both);
}
__device__ __forceinline__ uint32_t bits_of(bf16 low, bf16 high) {
    Vector<bf16, 2> both = {{low, high}};
    return *reinterpret_cast<uint32_t*>(&both);
}
template <class T>
__device__ __forceinline__ uint32_t pack(float low, float high) {
    return bits_of(from_float<T>(low), from_float<T>(high));
}

// 2 to the power of x by one instruction of the special function unit: within 2^-22 of the value, denormals are 0. exp2f
// spends three more instructions on denormals, which vanish in a weight of 16 bits. On the CPU it is the exact function.
__device__ __forceinline__ float exp2_approximate(float x) {
#ifdef __CUDACC__
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
#else
    return exp2f(x);
#endif
}

#ifdef __CUDACC__
#if HAS_TENSOR_CORES

// 16 bytes from global to shared memory without a register between; zeros when not `valid`, and `from` is not read then.
__device__ __forceinline__ void copy_async(void* to, const void* from, bool valid) {
    const unsigned address = unsigned(__cvta_generic_to_shared(to));
    const int bytes = valid ? 16 : 0;
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;\n" ::"r"(address), "l"(from), "r"(bytes) : "memory");
}

// Ends a group of copies.
__device__ __forceinline__ void copy_commit() { asm volatile("cp.async.commit_group;\n" ::: "memory"); }

// Waits for this thread's groups but the last N.
template <int N>
__device__ __forceinline__ void copy_wait() {
    asm volatile("cp.async.wait_group %0;\n" ::"n"(N) : "memory");
}

// Four matrices of 8 x 8 values of 16 bits: lane l gives the address of row l % 8 of matrix l / 8.
__device__ __forceinline__ void load_matrices(uint32_t (&to)[4], const void* row) {
    const unsigned address = unsigned(__cvta_generic_to_shared(row));
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];\n"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(address)
                 : "memory");
}

// The same matrices, transposed.
__device__ __forceinline__ void load_matrices_transposed(uint32_t (&to)[4], const void* row) {
    const unsigned address = unsigned(__cvta_generic_to_shared(row));
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];\n"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(address)
                 : "memory");
}

// d += a b, with a [16, 16], b [16, 8] and d [16, 8] spread over the warp.
template <class T>
__device__ __forceinline__ void multiply_add(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1);

template <>
__device__ __forceinline__ void multiply_add<f16>(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
                 "{%0, %1, %2, %3};\n"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

template <>
__device__ __forceinline__ void multiply_add<bf16>(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
                 "{%0, %1, %2, %3};\n"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

#endif
#else

inline void copy_async(void* to, const void* from, bool valid) { cuda_cpu::copy_async(to, from, valid); }
inline void copy_commit() { cuda_cpu::self->group++; }
template <int N>
void copy_wait() {
    cuda_cpu::wait_for_copies(N);
}

inline void load_matrices_of(uint32_t (&to)[4], const void* row, bool transposed, const char* operation) {
    cuda_cpu::check_shared(row, 16);
    const unsigned turn = cuda_cpu::show(row, operation), lane = cuda_cpu::lane();
    for (unsigned matrix = 0; matrix < 4; matrix++) {
        uint16_t both[2];
        for (unsigned i = 0; i < 2; i++) {
            // Lane l holds row l / 4, columns 2 (l % 4) and the next.
            unsigned r = lane / 4, c = 2 * (lane % 4) + i;
            if (transposed) std::swap(r, c);
            both[i] = static_cast<const uint16_t*>(cuda_cpu::shown<const void*>(turn, 8 * matrix + r))[c];
        }
        to[matrix] = both[0] | uint32_t(both[1]) << 16;
    }
}
inline void load_matrices(uint32_t (&to)[4], const void* row) { load_matrices_of(to, row, false, "ldmatrix"); }
inline void load_matrices_transposed(uint32_t (&to)[4], const void* row) {
    load_matrices_of(to, row, true, "ldmatrix.trans");
}

template <class T>
float half_of(uint32_t bits, unsigned which) {
    return to_float(T{uint16_t(bits >> (16 * which))});
}

template <class T>
void multiply_add(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
    struct Fragments {
        uint32_t a[4], b[2];
    };
    const Fragments mine = {{a[0], a[1], a[2], a[3]}, {b0, b1}};
    const unsigned turn = cuda_cpu::show(mine, "mma"), lane = cuda_cpu::lane();
    // Lane l holds of a rows l / 4 and that + 8, of b column l / 4; registers count up rows first, then columns by 8.
    float rows[2][16], columns[2][16];
    for (unsigned i = 0; i < 2; i++) {
        for (unsigned k = 0; k < 16; k++) {
            const unsigned owner = k % 8 / 2;
            const auto of_a = cuda_cpu::shown<Fragments>(turn, lane / 4 * 4 + owner);
            const auto of_b = cuda_cpu::shown<Fragments>(turn, (2 * (lane % 4) + i) * 4 + owner);
            rows[i][k] = half_of<T>(of_a.a[i + k / 8 * 2], k % 2);
            columns[i][k] = half_of<T>(of_b.b[k / 8], k % 2);
        }
    }
    for (unsigned i = 0; i < 4; i++) {
        float sum = 0;
        for (unsigned k = 0; k < 16; k++) sum += rows[i / 2][k] * columns[i % 2][k];
        d[i] += sum;
    }
}

#endif
