// LayerNorm over the last dimension; see ops/layer_norm.rs, whose reference implementation defines it.
//
// A warp has a row, so that no barrier is needed. Memory-bound: a row is read once when it fits into the warp's registers.
#include "common.cuh"

constexpr int THREADS = 256;
// Numbers of a row that a lane holds: rows of up to 32 times as many channels are read once.
constexpr int HELD = 32;

// The row in registers. c is a multiple of WIDTH<T> and at most HELD * WARP_SIZE, and everything lies at 16 bytes.
template <class T>
__device__ void held_row(const T* __restrict__ x, const T* __restrict__ weight, const T* __restrict__ bias,
                         T* __restrict__ out, int c, float eps) {
    constexpr int N = WIDTH<T>;
    constexpr int VECTORS = HELD / N;
    const int lane = threadIdx.x % WARP_SIZE;
    float row[VECTORS][N];
    float sum = 0;
#pragma unroll
    for (int j = 0; j < VECTORS; j++) {
        const int k = (j * WARP_SIZE + lane) * N;
        if (k >= c) continue;
        load<N>(x + k, row[j]);
#pragma unroll
        for (int i = 0; i < N; i++) sum += row[j][i];
    }
    const float mean = warp_sum(sum) / float(c);
    // The squares of what is left after the mean, not the mean of the squares: that would cancel.
    float squares = 0;
#pragma unroll
    for (int j = 0; j < VECTORS; j++) {
        const int k = (j * WARP_SIZE + lane) * N;
        if (k >= c) continue;
#pragma unroll
        for (int i = 0; i < N; i++) {
            row[j][i] -= mean;
            squares += row[j][i] * row[j][i];
        }
    }
    const float rstd = rsqrtf(warp_sum(squares) / float(c) + eps);
#pragma unroll
    for (int j = 0; j < VECTORS; j++) {
        const int k = (j * WARP_SIZE + lane) * N;
        if (k >= c) continue;
        float w[N], b[N];
        load<N>(weight + k, w);
        load<N>(bias + k, b);
#pragma unroll
        for (int i = 0; i < N; i++) row[j][i] = row[j][i] * rstd * w[i] + b[i];
        store<N>(out + k, row[j]);
    }
}

// Any row; the second and third reading come from the cache.
template <class T>
__device__ void any_row(const T* __restrict__ x, const T* __restrict__ weight, const T* __restrict__ bias,
                        T* __restrict__ out, int c, float eps) {
    const int lane = threadIdx.x % WARP_SIZE;
    float sum = 0;
    for (int k = lane; k < c; k += WARP_SIZE) sum += load(x + k);
    const float mean = warp_sum(sum) / float(c);
    float squares = 0;
    for (int k = lane; k < c; k += WARP_SIZE) {
        const float centered = load(x + k) - mean;
        squares += centered * centered;
    }
    const float rstd = rsqrtf(warp_sum(squares) / float(c) + eps);
    for (int k = lane; k < c; k += WARP_SIZE) {
        store(out + k, (load(x + k) - mean) * rstd * load(weight + k) + load(bias + k));
    }
}

template <class T>
__device__ __forceinline__ void layer_norm(const T* x, const T* weight, const T* bias, T* out, int rows, int c, float eps,
                                           int held) {
    const int64_t row = int64_t(blockIdx.x) * (THREADS / WARP_SIZE) + threadIdx.x / WARP_SIZE;
    // A whole warp leaves together.
    if (row >= rows) return;
    const int64_t at = row * c;
    if (held) {
        held_row(x + at, weight, bias, out + at, c, eps);
    } else {
        any_row(x + at, weight, bias, out + at, c, eps);
    }
}

// x and out [rows, c], weight and bias [c]. `held` says that held_row's conditions are met.
#define LAYER_NORM(T)                                                                                                  \
    extern "C" __global__ void __launch_bounds__(THREADS)                                                              \
        layer_norm_##T(const T* x, const T* weight, const T* bias, T* out, int rows, int c, float eps, int held) {     \
        layer_norm(x, weight, bias, out, rows, c, eps, held);                                                          \
    }                                                                                                                  \
    KERNEL_ENTRY(layer_norm_##T)
FOR_EACH_TYPE(LAYER_NORM)
