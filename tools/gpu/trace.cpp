// Adds up the time of every kernel and copy of a CUDA program, through CUPTI's activity records, and writes a table when the
// program ends. For machines without Nsight Systems.
//
//   g++ -std=c++17 -O2 -shared -fPIC -I$CUPTI/include tools/gpu/trace.cpp -o libtrace.so -L$CUPTI/lib -l:libcupti.so.13
//   CUDA_INJECTION64_PATH=$PWD/libtrace.so TRACE_OUT=table.txt PROGRAM ...
//
// Never run by the authors before the day that docs/cuda.md reports.
#include <cupti.h>
#include <cxxabi.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <map>
#include <mutex>
#include <string>
#include <vector>

namespace {

struct Sum {
    uint64_t calls = 0, nanoseconds = 0, longest = 0;
};

std::mutex lock;
std::map<std::string, Sum> sums;
uint64_t first_start = std::numeric_limits<uint64_t>::max(), last_end = 0, busy = 0;

constexpr size_t BUFFER_BYTES = 8 << 20;
constexpr size_t NAME_LENGTH = 110;

void add(const std::string& name, uint64_t start, uint64_t end) {
    Sum& sum = sums[name];
    sum.calls++;
    sum.nanoseconds += end - start;
    sum.longest = std::max(sum.longest, end - start);
    busy += end - start;
    first_start = std::min(first_start, start);
    last_end = std::max(last_end, end);
}

std::string demangled(const char* name) {
    int status = 0;
    char* plain = abi::__cxa_demangle(name, nullptr, nullptr, &status);
    std::string result = plain ? plain : name;
    free(plain);
    return result.substr(0, NAME_LENGTH);
}

const char* copy_name(uint8_t kind) {
    switch (kind) {
        case CUPTI_ACTIVITY_MEMCPY_KIND_HTOD: return "[copy host to device]";
        case CUPTI_ACTIVITY_MEMCPY_KIND_DTOH: return "[copy device to host]";
        case CUPTI_ACTIVITY_MEMCPY_KIND_DTOD: return "[copy device to device]";
        default: return "[copy]";
    }
}

void CUPTIAPI buffer_requested(uint8_t** buffer, size_t* size, size_t* max_records) {
    *buffer = static_cast<uint8_t*>(aligned_alloc(8, BUFFER_BYTES));
    *size = *buffer ? BUFFER_BYTES : 0;
    *max_records = 0;
}

void CUPTIAPI buffer_completed(CUcontext, uint32_t, uint8_t* buffer, size_t, size_t valid) {
    std::lock_guard<std::mutex> held(lock);
    CUpti_Activity* record = nullptr;
    while (cuptiActivityGetNextRecord(buffer, valid, &record) == CUPTI_SUCCESS) {
        if (record->kind == CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL) {
            auto* kernel = reinterpret_cast<CUpti_ActivityKernel9*>(record);
            add(demangled(kernel->name), kernel->start, kernel->end);
        } else if (record->kind == CUPTI_ACTIVITY_KIND_MEMCPY) {
            auto* copy = reinterpret_cast<CUpti_ActivityMemcpy5*>(record);
            add(copy_name(copy->copyKind), copy->start, copy->end);
        }
    }
    free(buffer);
}

void write_table() {
    cuptiActivityFlushAll(CUPTI_ACTIVITY_FLAG_FLUSH_FORCED);
    std::lock_guard<std::mutex> held(lock);
    const char* path = getenv("TRACE_OUT");
    FILE* out = path ? fopen(path, "a") : stderr;
    if (!out || sums.empty()) return;
    std::vector<std::pair<std::string, Sum>> rows(sums.begin(), sums.end());
    std::sort(rows.begin(), rows.end(), [](auto& a, auto& b) { return a.second.nanoseconds > b.second.nanoseconds; });
    fprintf(out, "from first to last %.3f ms, busy %.3f ms\n", double(last_end - first_start) / 1e6, double(busy) / 1e6);
    fprintf(out, "%10s %7s %10s %10s  name\n", "ms", "calls", "mean us", "max us");
    for (auto& [name, sum] : rows) {
        fprintf(out, "%10.3f %7llu %10.1f %10.1f  %s\n", double(sum.nanoseconds) / 1e6,
                static_cast<unsigned long long>(sum.calls), double(sum.nanoseconds) / 1e3 / double(sum.calls),
                double(sum.longest) / 1e3, name.c_str());
    }
    if (path) fclose(out);
}

}  // namespace

// The driver calls this in every program that it initializes.
extern "C" int InitializeInjection() {
    cuptiActivityRegisterCallbacks(buffer_requested, buffer_completed);
    cuptiActivityEnable(CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL);
    cuptiActivityEnable(CUPTI_ACTIVITY_KIND_MEMCPY);
    atexit(write_table);
    return 1;
}
