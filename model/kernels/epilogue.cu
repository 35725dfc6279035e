// What follows a product of matrices, in one pass over its output and in place; see ops/linear.rs and ops/conv2d.rs, whose
// reference implementations define it.
//
// Memory-bound. A thread has some columns and walks down ROWS rows, so that bias and gamma are read once for all of them.
#include "common.cuh"

constexpr int THREADS = 128;
constexpr int ROWS = 8;

enum class Epilogue {
    // y + bias
    NOTHING,
    // gelu(y + bias), by the error function
    GELU,
    // residual + gamma (y + bias)
    RESIDUAL,
    // y + bias + max(skip_relu, 0) + skip, and max(that, 0) if asked for; either skip may be missing
    CONVOLUTION,
};

// Each as long as y, but gamma, which is a row.
template <class T>
struct Others {
    const T* gamma = nullptr;
    const T* residual = nullptr;
    const T* skip_relu = nullptr;
    const T* skip = nullptr;
    int relu = 0;
};

template <Epilogue EPILOGUE, int N, class T>
__device__ __forceinline__ void walk(T* y, const T* bias, const Others<T> others, int rows, int n) {
    const int64_t first = int64_t(blockIdx.x) * ROWS;
    const int64_t end = first + ROWS < rows ? first + ROWS : rows;
    for (int column = int(threadIdx.x) * N; column < n; column += THREADS * N) {
        float b[N], gamma[N], other[N], v[N];
        load<N>(bias + column, b);
        if constexpr (EPILOGUE == Epilogue::RESIDUAL) load<N>(others.gamma + column, gamma);
        for (int64_t row = first; row < end; row++) {
            const int64_t at = row * n + column;
            load<N>(y + at, v);
#pragma unroll
            for (int i = 0; i < N; i++) v[i] += b[i];
            if constexpr (EPILOGUE == Epilogue::GELU) {
#pragma unroll
                for (int i = 0; i < N; i++) v[i] = 0.5f * v[i] * (1.0f + erff(v[i] * 0.70710678118654752f));
            }
            if constexpr (EPILOGUE == Epilogue::RESIDUAL) {
                load<N>(others.residual + at, other);
#pragma unroll
                for (int i = 0; i < N; i++) v[i] = other[i] + gamma[i] * v[i];
            }
            if constexpr (EPILOGUE == Epilogue::CONVOLUTION) {
                if (others.skip_relu) {
                    load<N>(others.skip_relu + at, other);
#pragma unroll
                    for (int i = 0; i < N; i++) v[i] += fmaxf(other[i], 0.0f);
                }
                if (others.skip) {
                    load<N>(others.skip + at, other);
#pragma unroll
                    for (int i = 0; i < N; i++) v[i] += other[i];
                }
                if (others.relu) {
#pragma unroll
                    for (int i = 0; i < N; i++) v[i] = fmaxf(v[i], 0.0f);
                }
            }
            store<N>(y + at, v);
        }
    }
}

// `wide`: n is a multiple of WIDTH<T> and everything lies at 16 bytes.
template <Epilogue EPILOGUE, class T>
__device__ __forceinline__ void finish(T* y, const T* bias, const Others<T> others, int rows, int n, int wide) {
    if (wide) {
        walk<EPILOGUE, WIDTH<T>>(y, bias, others, rows, n);
    } else {
        walk<EPILOGUE, 1>(y, bias, others, rows, n);
    }
}

// y, residual and skips [rows, n]; bias and gamma [n].
#define EPILOGUES(T)                                                                                                   \
    extern "C" __global__ void __launch_bounds__(THREADS) bias_##T(T* y, const T* bias, int rows, int n, int wide) {   \
        finish<Epilogue::NOTHING>(y, bias, Others<T>{}, rows, n, wide);                                                \
    }                                                                                                                  \
    KERNEL_ENTRY(bias_##T)                                                                                             \
    extern "C" __global__ void __launch_bounds__(THREADS)                                                              \
        bias_gelu_##T(T* y, const T* bias, int rows, int n, int wide) {                                                \
        finish<Epilogue::GELU>(y, bias, Others<T>{}, rows, n, wide);                                                   \
    }                                                                                                                  \
    KERNEL_ENTRY(bias_gelu_##T)                                                                                        \
    extern "C" __global__ void __launch_bounds__(THREADS)                                                              \
        bias_residual_##T(T* y, const T* bias, const T* gamma, const T* residual, int rows, int n, int wide) {         \
        finish<Epilogue::RESIDUAL>(y, bias, Others<T>{gamma, residual}, rows, n, wide);                                \
    }                                                                                                                  \
    KERNEL_ENTRY(bias_residual_##T)                                                                                    \
    extern "C" __global__ void __launch_bounds__(THREADS)                                                              \
        bias_skip_##T(T* y, const T* bias, const T* skip_relu, const T* skip, int rows, int n, int relu, int wide) {   \
        finish<Epilogue::CONVOLUTION>(y, bias, Others<T>{nullptr, nullptr, skip_relu, skip, relu}, rows, n, wide);     \
    }                                                                                                                  \
    KERNEL_ENTRY(bias_skip_##T)
FOR_EACH_TYPE(EPILOGUES)
