// Bilinear resampling whose corners stay in place, channels last, with an embedding of the new positions added on the way; see
// ops/bilinear.rs and ops/positions.rs, whose reference implementations define it.
//
// Memory-bound. A warp has a pixel of the result, its lanes the channels. F32 alone, as the heads that resample are.
#include "common.cuh"

constexpr int THREADS = 256;
constexpr int WARPS = THREADS / WARP_SIZE;

// The two neighbors of a position along one axis, and the weight of the second.
struct Tap {
    int low, high;
    float t;
};

__device__ __forceinline__ Tap tap(int at, int from, int to) {
    // In F32 and rounded after each step, as PyTorch computes the scale and the position.
    const float scale = to > 1 ? float(from - 1) / float(to - 1) : 0.0f;
    const float position = __fmul_rn(scale, float(at));
    int low = int(position);
    low = low < from - 1 ? low : from - 1;
    const int high = low + 1 < from - 1 ? low + 1 : from - 1;
    return {low, high, position - float(low)};
}

template <int N>
__device__ __forceinline__ void pixel(const float* __restrict__ x, float* __restrict__ out,
                                      const float* __restrict__ columns, const float* __restrict__ rows, int64_t at, int h,
                                      int w, int height, int width, int c) {
    const int column = int(at % width);
    const int row = int(at / width % height);
    const int64_t batch = at / width / height;
    const Tap across = tap(column, w, width), down = tap(row, h, height);
    const float* low = x + (batch * h + down.low) * w * c;
    const float* high = x + (batch * h + down.high) * w * c;
    const int64_t left = int64_t(across.low) * c, right = int64_t(across.high) * c;
    const int half = c / 2;
    for (int k = int(threadIdx.x % WARP_SIZE) * N; k < c; k += WARP_SIZE * N) {
        float corners[4][N], y[N];
        load<N>(low + left + k, corners[0]);
        load<N>(low + right + k, corners[1]);
        load<N>(high + left + k, corners[2]);
        load<N>(high + right + k, corners[3]);
#pragma unroll
        for (int i = 0; i < N; i++) {
            const float above = corners[0][i] * (1.0f - across.t) + corners[1][i] * across.t;
            const float below = corners[2][i] * (1.0f - across.t) + corners[3][i] * across.t;
            y[i] = above * (1.0f - down.t) + below * down.t;
        }
        if (columns) {
            float embedding[N];
            const bool of_column = k < half;
            load<N>(of_column ? columns + int64_t(column) * half + k : rows + int64_t(row) * half + k - half, embedding);
#pragma unroll
            for (int i = 0; i < N; i++) y[i] += embedding[i];
        }
        store<N>(out + at * c + k, y);
    }
}

// x [batch, h, w, c], out [batch, height, width, c]; columns [width, c / 2] and rows [height, c / 2], or both null. `wide`: c
// is a multiple of 4, of 8 with an embedding, and everything lies at 16 bytes.
extern "C" __global__ void __launch_bounds__(THREADS)
    bilinear_f32(const float* x, float* out, const float* columns, const float* rows, int batch, int h, int w, int height,
                 int width, int c, int wide) {
    const int64_t at = int64_t(blockIdx.x) * WARPS + threadIdx.x / WARP_SIZE;
    if (at >= int64_t(batch) * height * width) return;
    if (wide) {
        pixel<4>(x, out, columns, rows, at, h, w, height, width, c);
    } else {
        pixel<1>(x, out, columns, rows, at, h, w, height, width, c);
    }
}
KERNEL_ENTRY(bilinear_f32)
