//! The functions of CUDA that cudarc calls, for whatever version of CUDA it is built.

use super::lazy::{Library, fail, functions};

// Statuses from NVIDIA's headers, each the one with which the library itself says that it cannot be used.
/// `CUDA_ERROR_NO_DEVICE`.
const NO_DEVICE: i32 = 100;
/// `CUDA_ERROR_NOT_FOUND`: what a named symbol is that the driver is too old for.
const NOT_FOUND: i32 = 500;
/// `CUBLAS_STATUS_NOT_INITIALIZED`, of cuBLASLt too.
const BLAS_NOT_INITIALIZED: i32 = 1;
/// `CUBLAS_STATUS_NOT_SUPPORTED`, of cuBLASLt too.
const BLAS_NOT_SUPPORTED: i32 = 15;
/// `CURAND_STATUS_NOT_INITIALIZED`.
const RAND_NOT_INITIALIZED: i32 = 101;
/// `CURAND_STATUS_INTERNAL_ERROR`.
const RAND_INTERNAL_ERROR: i32 = 999;
/// `NVRTC_ERROR_INTERNAL_ERROR`.
const RTC_INTERNAL_ERROR: i32 = 11;

/// The driver. Comes with the card's driver, never with CUDA.
pub(super) static DRIVER: Library =
    Library::new(&[c"libcuda.so.1"], fail::<NO_DEVICE>, fail::<NOT_FOUND>);

// The libraries of CUDA itself, wherever the loader looks (LD_LIBRARY_PATH, ld.so.conf). The release before is as good: these
// functions are the same in both.

/// cuBLAS.
pub(super) static BLAS: Library = Library::new(
    &[c"libcublas.so.13", c"libcublas.so.12"],
    fail::<BLAS_NOT_INITIALIZED>,
    fail::<BLAS_NOT_SUPPORTED>,
);

/// cuBLASLt.
static BLAS_LT: Library = Library::new(
    &[c"libcublasLt.so.13", c"libcublasLt.so.12"],
    fail::<BLAS_NOT_INITIALIZED>,
    fail::<BLAS_NOT_SUPPORTED>,
);

/// cuRAND, whose releases have numbers of their own: this one is in CUDA 11, 12 and 13.
pub(super) static RAND: Library = Library::new(
    &[c"libcurand.so.10"],
    fail::<RAND_NOT_INITIALIZED>,
    fail::<RAND_INTERNAL_ERROR>,
);

/// The compiler of kernels at run time. candle loads its own ready-made; this is for whoever asks.
static RTC: Library = Library::new(
    &[c"libnvrtc.so.13", c"libnvrtc.so.12"],
    fail::<RTC_INTERNAL_ERROR>,
    fail::<RTC_INTERNAL_ERROR>,
);

// What cudarc 0.19 calls, outside its bindings of everything:
//   grep -rhoE "\bcu[A-Z]\w*\(" src/driver --include=*.rs --exclude-dir=sys | sort -u
// and so on for the others, and cuDriverGetVersion, which this crate calls. What somebody calls and is not here, the linker
// reports as undefined.

functions! {
    DRIVER:
    cuCtxCreate_v3 cuCtxCreate_v4 cuCtxDestroy_v2 cuCtxGetCacheConfig cuCtxGetCurrent cuCtxGetLimit
    cuCtxGetStreamPriorityRange cuCtxSetCacheConfig cuCtxSetCurrent cuCtxSetFlags cuCtxSetLimit cuCtxSynchronize
    cuDestroyExternalMemory cuDeviceGet cuDeviceGetAttribute cuDeviceGetCount cuDeviceGetDefaultMemPool
    cuDeviceGetMemPool cuDeviceGetName cuDeviceGetUuid cuDeviceGetUuid_v2 cuDevicePrimaryCtxRelease_v2
    cuDevicePrimaryCtxRetain cuDeviceSetMemPool cuDeviceTotalMem_v2 cuDriverGetVersion cuEventCreate
    cuEventDestroy_v2 cuEventElapsedTime cuEventElapsedTime_v2 cuEventQuery cuEventRecord cuEventSynchronize
    cuExternalMemoryGetMappedBuffer cuFuncGetAttribute cuFuncSetAttribute cuFuncSetCacheConfig cuGetErrorName
    cuGetErrorString cuGraphClone cuGraphDestroy cuGraphExecDestroy cuGraphInstantiate
    cuGraphInstantiateWithFlags cuGraphLaunch cuGraphUpload cuImportExternalMemory cuInit
    cuLaunchCooperativeKernel cuLaunchHostFunc cuLaunchKernel cuMemAdvise_v2 cuMemAllocAsync
    cuMemAllocFromPoolAsync cuMemAllocManaged cuMemAlloc_v2 cuMemFreeAsync cuMemFreeHost cuMemFree_v2
    cuMemGetInfo_v2 cuMemHostAlloc cuMemPoolCreate cuMemPoolDestroy cuMemPoolGetAttribute cuMemPoolSetAttribute
    cuMemPoolTrimTo cuMemPrefetchAsync_v2 cuMemcpyDtoDAsync_v2 cuMemcpyDtoD_v2 cuMemcpyDtoHAsync_v2
    cuMemcpyDtoH_v2 cuMemcpyHtoDAsync_v2 cuMemcpyHtoD_v2 cuMemcpyPeerAsync cuMemsetD8Async cuMemsetD8_v2
    cuModuleGetFunction cuModuleGetGlobal_v2 cuModuleLoad cuModuleLoadData cuModuleUnload
    cuOccupancyAvailableDynamicSMemPerBlock cuOccupancyMaxActiveBlocksPerMultiprocessor
    cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags cuOccupancyMaxActiveClusters
    cuOccupancyMaxPotentialBlockSize cuOccupancyMaxPotentialBlockSizeWithFlags cuOccupancyMaxPotentialClusterSize
    cuProfilerStart cuProfilerStop cuStreamAttachMemAsync cuStreamBeginCapture_v2 cuStreamCreate
    cuStreamCreateWithPriority cuStreamDestroy_v2 cuStreamEndCapture cuStreamIsCapturing cuStreamSynchronize
    cuStreamWaitEvent
}

functions! {
    BLAS:
    cublasCreate_v2 cublasDasum_v2 cublasDestroy_v2 cublasDgemmStridedBatched cublasDgemm_v2 cublasDgemv_v2
    cublasGemmEx cublasGemmGroupedBatchedEx cublasGemmStridedBatchedEx cublasGetPointerMode_v2 cublasSasum_v2
    cublasSetPointerMode_v2 cublasSetStream_v2 cublasSgemmStridedBatched cublasSgemm_v2 cublasSgemv_v2
}

functions! {
    BLAS_LT:
    cublasLtCreate cublasLtDestroy cublasLtLoggerOpenFile cublasLtLoggerSetLevel cublasLtMatmul
    cublasLtMatmulAlgoGetHeuristic cublasLtMatmulDescCreate cublasLtMatmulDescDestroy
    cublasLtMatmulDescSetAttribute cublasLtMatmulPreferenceCreate cublasLtMatmulPreferenceDestroy
    cublasLtMatmulPreferenceSetAttribute cublasLtMatrixLayoutCreate cublasLtMatrixLayoutDestroy
    cublasLtMatrixLayoutSetAttribute
}

functions! {
    RAND:
    curandCreateGenerator curandDestroyGenerator curandGenerate curandGenerateLogNormal
    curandGenerateLogNormalDouble curandGenerateLongLong curandGenerateNormal curandGenerateNormalDouble
    curandGeneratePoisson curandGenerateUniform curandGenerateUniformDouble curandSetGeneratorOffset
    curandSetPseudoRandomGeneratorSeed curandSetStream
}

functions! {
    RTC:
    nvrtcCompileProgram nvrtcCreateProgram nvrtcDestroyProgram nvrtcGetPTX nvrtcGetPTXSize nvrtcGetProgramLog
    nvrtcGetProgramLogSize
}
