/* libamd_smi.so as amdsmi.h describes it, played by sensor_model.h.
 *
 * The layouts changed between releases: the key `abi` says which one the caller's wrapper has
 * (60: wrappers 6.0 to 6.3, 64: 6.4, 70: 7.0).
 */
#include "sensor_model.h"

enum { OK = 0, BAD_ARGUMENT = 1, NOT_SUPPORTED = 2, NOT_INIT = 32 };

static int initialised;

#define CHECK(function)                                                            \
    device_t *d = handle;                                                          \
    call_count++;                                                                  \
    if (!initialised) return NOT_INIT;                                             \
    if (d < devices || d >= devices + device_count) return BAD_ARGUMENT;           \
    { int failed = status_of(d, function); if (failed) return failed; }

EXPORT int amdsmi_init(uint64_t flags) {
    (void)flags;
    int failed = initialised ? OK : read_description(34 /* DRIVER_NOT_LOADED */);
    if (!failed) initialised++;
    return failed;
}
EXPORT int amdsmi_shut_down(void) {
    if (!initialised) return NOT_INIT;
    initialised--;
    return OK;
}
EXPORT int amdsmi_status_code_to_string(int status, const char **text) {
    *text = status == NOT_SUPPORTED ? "AMDSMI_STATUS_NOT_SUPPORTED" : "AMDSMI_STATUS";
    return OK;
}

/* One socket per device: the wrapper walks sockets, and asks each array twice. */
EXPORT int amdsmi_get_socket_handles(uint32_t *count, void **handles) {
    if (!initialised) return NOT_INIT;
    if (handles)
        for (uint32_t i = 0; i < *count && i < (uint32_t)device_count; i++) handles[i] = &devices[i];
    *count = device_count;
    return OK;
}
EXPORT int amdsmi_get_processor_handles(void *socket, uint32_t *count, void **handles) {
    if (!initialised) return NOT_INIT;
    if (handles && *count) handles[0] = socket;
    *count = 1;
    return OK;
}
EXPORT int amdsmi_get_processor_type(void *handle, int *type) { CHECK("amdsmi_get_processor_type") *type = 1; return OK; }

/* function 3 bits, device 5, bus 8, domain 48; partitions of one GPU differ in the function only */
EXPORT int amdsmi_get_gpu_device_bdf(void *handle, uint64_t *bdf) {
    CHECK("amdsmi_get_gpu_device_bdf")
    int physical = d->physical >= 0 ? d->physical : (int)(d - devices);
    *bdf = (uint64_t)(d->partition & 7) | (uint64_t)(0x10 + physical) << 8;
    return OK;
}
EXPORT int amdsmi_get_gpu_device_uuid(void *handle, unsigned *length, char *uuid) {
    CHECK("amdsmi_get_gpu_device_uuid")
    snprintf(uuid, *length, "%s", d->uuid + 4);
    return OK;
}
EXPORT int amdsmi_get_gpu_asic_info(void *handle, char *info) {
    CHECK("amdsmi_get_gpu_asic_info")
    snprintf(info, 64, "%.63s", d->device_name); /* market_name comes first, 64 characters in the oldest layout */
    return OK;
}
EXPORT int amdsmi_get_gpu_driver_info(void *handle, char *info) {
    CHECK("amdsmi_get_gpu_driver_info")
    snprintf(info, 64, "%s", driver_version);
    return OK;
}
typedef struct { uint64_t kfd_id; uint32_t node_id, partition, reserved[12]; } kfd_info;
EXPORT int amdsmi_get_gpu_kfd_info(void *handle, kfd_info *info) {
    CHECK("amdsmi_get_gpu_kfd_info")
    info->kfd_id = 1000 + (uint64_t)(d - devices);
    info->node_id = 1 + (uint32_t)(d - devices);
    info->partition = (uint32_t)d->partition;
    return OK;
}

/* ---- power and energy ---- */

typedef struct { uint32_t current, average, gfx, soc, mem, limit, reserved[11]; } power_60;
typedef struct { uint64_t socket; uint32_t current, average, gfx, soc, mem, limit, reserved[2]; } power_64;
typedef struct { uint64_t socket; uint32_t current, average; uint64_t gfx, soc, mem; uint32_t limit, padding;
                 uint64_t reserved[18]; } power_70;
_Static_assert(sizeof(power_60) == 68 && sizeof(power_64) == 40 && sizeof(power_70) == 192, "amdsmi_power_info_t");

EXPORT int amdsmi_get_power_info(void *handle, void *info) {
    CHECK("amdsmi_get_power_info")
    double t = now_s();
    uint64_t missing = d->missing >= 1.8e19 ? UINT64_MAX : (uint64_t)d->missing;
    uint32_t missing_32 = missing > UINT32_MAX ? UINT32_MAX : (uint32_t)missing;
    uint32_t instant = (uint32_t)lround(seen_power(d, t, d->power_window_s));
    uint32_t average = (uint32_t)lround(seen_power(d, t, d->average_window_s));
    /* MI300 and later tell the current power, everything before it (and Navi) the average. */
    int is_mi300 = !strcmp(d->generation, "mi300"), is_silent = !strcmp(d->generation, "silent");
    uint32_t current_socket = is_mi300 ? instant : missing_32, average_socket = is_mi300 ? missing_32 : average;
    uint64_t socket = is_mi300 ? instant : average;
    if (is_silent) { current_socket = average_socket = missing_32; socket = missing; }
    if (!strcmp(d->generation, "zero")) current_socket = average_socket = 0, socket = 0;
    uint32_t limit = (uint32_t)d->limit_w;
    if (d->abi < 64) *(power_60 *)info = (power_60){current_socket, average_socket, 900, 800, 700, limit, {0}};
    else if (d->abi < 70) *(power_64 *)info = (power_64){socket, current_socket, average_socket, 900, 800, 700, limit, {0}};
    else *(power_70 *)info = (power_70){socket, current_socket, average_socket, 900, 800, missing, limit, 0, {0}};
    return OK;
}
/* what wrapper 6.4 calls for amdsmi_get_power_info */
EXPORT int amdsmi_get_power_info_v2(void *handle, uint32_t sensor, void *info) {
    (void)sensor;
    return amdsmi_get_power_info(handle, info);
}
EXPORT int amdsmi_get_energy_count(void *handle, uint64_t *accumulator, float *resolution, uint64_t *timestamp) {
    CHECK("amdsmi_get_energy_count")
    double t = now_s();
    *resolution = 15.3f;
    *accumulator = (uint64_t)(seen_counter(d, t) / (*resolution * 1e-6));
    *timestamp = (uint64_t)(t * 1e9);
    return OK;
}
typedef struct { uint64_t cap, standard, dpm, low, high, reserved[3]; } power_cap;
EXPORT int amdsmi_get_power_cap_info(void *handle, uint32_t sensor, power_cap *info) {
    CHECK("amdsmi_get_power_cap_info")
    (void)sensor;
    *info = (power_cap){(uint64_t)(d->limit_w * 1e6), (uint64_t)(d->limit_w * 1e6), 0, 0, (uint64_t)(d->limit_w * 1e6), {0}};
    return OK;
}

/* ---- everything else ---- */

EXPORT int amdsmi_get_temp_metric(void *handle, uint32_t sensor, uint32_t metric, int64_t *value) {
    CHECK("amdsmi_get_temp_metric")
    (void)metric;
    if (sensor == 0) { int failed = status_of(d, "temperature_edge"); if (failed) return failed; }
    if (sensor == 1) { int failed = status_of(d, "temperature_hotspot"); if (failed) return failed; }
    *value = (int64_t)d->temperature_c;
    return OK;
}
typedef struct { uint32_t total_mib, used_mib, reserved[2]; } vram_usage;
EXPORT int amdsmi_get_gpu_vram_usage(void *handle, vram_usage *usage) {
    CHECK("amdsmi_get_gpu_vram_usage")
    usage->total_mib = (uint32_t)d->memory_total_mib;
    usage->used_mib = (uint32_t)d->memory_used_mib;
    return OK;
}
typedef struct { uint32_t gfx, umc, mm, reserved[13]; } engine_usage;
EXPORT int amdsmi_get_gpu_activity(void *handle, engine_usage *usage) {
    CHECK("amdsmi_get_gpu_activity")
    usage->gfx = (uint32_t)d->utilisation;
    usage->umc = usage->mm = 0;
    return OK;
}
/* {clk, min, max, ...}: the first three are alike in all layouts */
EXPORT int amdsmi_get_clock_info(void *handle, uint32_t type, uint32_t *info) {
    CHECK("amdsmi_get_clock_info")
    (void)type;
    info[0] = (uint32_t)d->sm_clock_mhz;
    info[1] = 500;
    info[2] = 2100;
    return OK;
}

/* The metrics table of releases 7.0: what every GPU does not tell is all ones. `throttle` is indep_throttle_status before
 * MI300 (generation `flag` has none); MI300 counts ticks of a millisecond under the limits whose bits of `throttle` are set (1 power, 2 PROCHOT,
 * 4 socket, 8 voltage regulator, 16 HBM) between `throttle_from_s` and `throttle_until_s`. */
enum { METRICS_SIZE = 4544, THROTTLE_STATUS = 68, INDEP_THROTTLE_STATUS = 112, ACCUMULATION = 424 };
EXPORT int amdsmi_get_gpu_metrics_info(void *handle, unsigned char *table) {
    CHECK("amdsmi_get_gpu_metrics_info")
    if (d->abi < 70) return NOT_SUPPORTED; /* the older layouts are not played */
    memset(table, 0xff, METRICS_SIZE);
    if (strcmp(d->generation, "mi300")) {
        uint32_t any = d->throttle != 0;
        uint64_t bits = d->throttle;
        memcpy(table + THROTTLE_STATUS, &any, sizeof any);
        if (strcmp(d->generation, "flag")) memcpy(table + INDEP_THROTTLE_STATUS, &bits, sizeof bits);
        return OK;
    }
    double t = now_s(), held_s = fmin(t, d->throttle_until_s) - d->throttle_from_s;
    if (held_s < 0) held_s = 0;
    uint64_t counts[6] = {(uint64_t)(t * 1000)}; /* accumulation_counter and the five residencies, prochot first */
    static const int bit_of[5] = {2, 1, 4, 8, 16};
    for (int i = 0; i < 5; i++) counts[i + 1] = 70 + (d->throttle & bit_of[i] ? (uint64_t)(held_s * 1000) : 0);
    memcpy(table + ACCUMULATION, counts, sizeof counts);
    return OK;
}

typedef struct { char name[256]; uint32_t pid, padding; uint64_t mem; uint64_t gfx, enc; uint32_t reserved_1[12];
                 uint64_t gtt, cpu, vram; uint32_t reserved_2[10]; char container[256]; uint32_t occupancy, reserved_3[11];
} process_info;
_Static_assert(sizeof(process_info) == 704, "amdsmi_proc_info_t");
/* `pid` uses `process_mib` of this GPU; `idle_pid` is listed without any, as some releases list all of a machine. */
EXPORT int amdsmi_get_gpu_process_list(void *handle, uint32_t *room, process_info *list) {
    CHECK("amdsmi_get_gpu_process_list")
    if (*room < 2) return BAD_ARGUMENT;
    uint32_t count = 0;
    if (d->pid) list[count++] = (process_info){.name = "engine", .pid = (uint32_t)d->pid, .vram = (uint64_t)d->process_mib << 20};
    if (d->idle_pid) list[count++] = (process_info){.name = "elsewhere", .pid = (uint32_t)d->idle_pid};
    *room = count;
    return OK;
}
