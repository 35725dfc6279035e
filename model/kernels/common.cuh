// What the kernels share: element types, vectors, sums over a warp. Compiles for the GPU and, through cuda_cpu.h, for the
// CPU; kernels touch global memory through `load` and `store` alone, so that the CPU sees every access.
#pragma once
#ifdef __CUDACC__
#include <cstdint>
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#define SHARED_ARRAY(T, name, count) __shared__ T name[count]
#define DYNAMIC_SHARED(name) extern __shared__ __align__(16) unsigned char name[]
#define CHECK_READ(at, bytes)
#define CHECK_WRITE(at, bytes)
#define KERNEL_ENTRY(name)
#else
#include "cuda_cpu.h"
#endif

// f32, f16 and bf16 by the names that candle gives them.
using f32 = float;
using f16 = __half;
using bf16 = __nv_bfloat16;

// Arithmetic is in f32 whatever the type in memory is.
__device__ __forceinline__ float to_float(f32 x) { return x; }
__device__ __forceinline__ float to_float(f16 x) { return __half2float(x); }
__device__ __forceinline__ float to_float(bf16 x) { return __bfloat162float(x); }

template <class T>
__device__ __forceinline__ T from_float(float x);
template <>
__device__ __forceinline__ f32 from_float<f32>(float x) {
    return x;
}
template <>
__device__ __forceinline__ f16 from_float<f16>(float x) {
    return __float2half_rn(x);
}
template <>
__device__ __forceinline__ bf16 from_float<bf16>(float x) {
    return __float2bfloat16_rn(x);
}

// Neighbors in memory that one instruction moves.
template <class T, int N>
struct alignas(sizeof(T) * N) Vector {
    T at[N];
};

// Numbers of T in 16 bytes, the most that one instruction moves.
template <class T>
constexpr int WIDTH = 16 / int(sizeof(T));

template <int N, class T>
__device__ __forceinline__ void load(const T* from, float (&to)[N]) {
    CHECK_READ(from, sizeof(T) * N);
    const Vector<T, N> v = *reinterpret_cast<const Vector<T, N>*>(from);
#pragma unroll
    for (int i = 0; i < N; i++) to[i] = to_float(v.at[i]);
}

template <int N, class T>
__device__ __forceinline__ void store(T* to, const float (&from)[N]) {
    CHECK_WRITE(to, sizeof(T) * N);
    Vector<T, N> v;
#pragma unroll
    for (int i = 0; i < N; i++) v.at[i] = from_float<T>(from[i]);
    *reinterpret_cast<Vector<T, N>*>(to) = v;
}

template <class T>
__device__ __forceinline__ float load(const T* from) {
    CHECK_READ(from, sizeof(T));
    return to_float(*from);
}

template <class T>
__device__ __forceinline__ void store(T* to, float x) {
    CHECK_WRITE(to, sizeof(T));
    *to = from_float<T>(x);
}

// Threads that walk in step.
constexpr int WARP_SIZE = 32;

// The sum over the warp, in every lane.
__device__ __forceinline__ float warp_sum(float x) {
#pragma unroll
    for (int bits = WARP_SIZE / 2; bits > 0; bits /= 2) x += __shfl_xor_sync(0xffffffffu, x, bits);
    return x;
}

// The same template for every type: kernel_f32, kernel_f16 and kernel_bf16.
#define FOR_EACH_TYPE(M) M(f32) M(f16) M(bf16)
