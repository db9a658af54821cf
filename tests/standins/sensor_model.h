/* What the stand-in libraries share: devices that follow a power curve, and sensors that look at it.
 *
 * A text file named by the environment variable HARNESS_STANDIN describes the devices, one `key value...` a
 * line; `@K key value...` holds for device K only. It is read at every initialisation of a library. See
 * tests/standins/play.py, which writes it, for the meaning of the keys.
 *
 * Everything a sensor shows is a function of the configuration and the time alone, so the truth is known: the
 * integral of the curve, published as standin_true_energy_j().
 */
#ifndef SENSOR_MODEL_H
#define SENSOR_MODEL_H

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define MAX_DEVICES 64
#define MAX_STATUSES 32
#define EXPORT __attribute__((visibility("default")))

typedef struct {
    double *t_s, *power_w, *energy_j; /* energy_j[i]: integral from t_s[0] to t_s[i] */
    int count, linear, loop;
} curve_t;

typedef struct {
    char name[64];
    int code;
    double from_s, until_s;
} status_t;

typedef struct {
    char path[512];
    curve_t curve;
    char device_name[96], uuid[96];
    double power_period_s, power_phase_s, power_window_s, average_window_s, power_delay_s, period_jitter;
    double counter_period_s, counter_phase_s, counter_delay_s, counter_quantum_j, counter_gain, counter_base_j;
    double freeze_s, reset_s; /* when the counter freezes or starts again at zero; INFINITY: never */
    double gain, offset_w, noise_w;
    double memory_total_mib, memory_used_mib, temperature_c, memory_temperature_c, utilisation, sm_clock_mhz, limit_w;
    unsigned long long throttle;
    int architecture, mig, pid, idle_pid, process_mib, partition, physical, abi, linear, loop;
    double throttle_from_s, throttle_until_s;
    double missing; /* what an absent number is encoded as, where the vendor has several ways */
    char generation[16];
    status_t statuses[MAX_STATUSES], hangs[MAX_STATUSES]; /* of a hang only name and times are used */
    int status_count, hang_count;
} device_t;

static device_t devices[MAX_DEVICES];
static int device_count;
static double epoch_s, speed = 1.0, set_time_s = -1.0;
static uint64_t noise_seed;
static char driver_version[64];
static long call_count;

static double clock_s(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static double now_s(void) { return set_time_s >= 0 ? set_time_s : (clock_s() - epoch_s) * speed; }

/* ---- the truth ---- */

static double energy_once(const curve_t *c, double t) {
    if (c->count == 0) return 0;
    if (t <= c->t_s[0]) return (t - c->t_s[0]) * c->power_w[0];
    int low = 0, high = c->count - 1;
    if (t >= c->t_s[high]) return c->energy_j[high] + (t - c->t_s[high]) * c->power_w[high];
    while (high - low > 1) {
        int middle = (low + high) / 2;
        if (c->t_s[middle] <= t) low = middle; else high = middle;
    }
    double dt = t - c->t_s[low];
    if (!c->linear) return c->energy_j[low] + dt * c->power_w[low];
    double slope = (c->power_w[low + 1] - c->power_w[low]) / (c->t_s[low + 1] - c->t_s[low]);
    return c->energy_j[low] + dt * (c->power_w[low] + 0.5 * dt * slope);
}

static double true_energy(const device_t *d, double t) {
    const curve_t *c = &d->curve;
    if (c->loop && c->count > 1) {
        double span = c->t_s[c->count - 1] - c->t_s[0], cycles = floor((t - c->t_s[0]) / span);
        return cycles * c->energy_j[c->count - 1] + energy_once(c, t - cycles * span);
    }
    return energy_once(c, t);
}

/* ---- what a sensor makes of it ---- */

static double uniform(uint64_t a, uint64_t b) {
    uint64_t x = noise_seed + a * 0x9e3779b97f4a7c15ULL + b * 0xbf58476d1ce4e5b9ULL;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
    x ^= x >> 31;
    return ((double)(x >> 11) + 0.5) * 0x1.0p-53;
}

static double gaussian(uint64_t a, uint64_t b) {
    return sqrt(-2 * log(uniform(a, b))) * cos(6.283185307179586 * uniform(a, b + 0x51ed27));
}

/* Time of the last tick at or before t; period zero: it ticks all the time. */
static double last_tick(const device_t *d, double t, double period, double phase, double *number) {
    *number = floor(t * 1e6);
    if (period <= 0) return t;
    for (double k = floor((t - phase) / period) + 1;; k -= 1) {
        double shift = d->period_jitter * period * (uniform((uint64_t)(k + 1e9), 77) - 0.5);
        double tick = phase + k * period + shift;
        if (tick <= t) { *number = k; return tick; }
    }
}

static double seen_power(const device_t *d, double t, double window) {
    double number, tick = last_tick(d, t - d->power_delay_s, d->power_period_s, d->power_phase_s, &number);
    if (window <= 0) window = 1e-6;
    double power = (true_energy(d, tick) - true_energy(d, tick - window)) / window;
    double noise = d->noise_w > 0 ? d->noise_w * gaussian((uint64_t)(d - devices), (uint64_t)(number + 1e9)) : 0;
    power = power * d->gain + d->offset_w + noise;
    return power > 0 ? power : 0;
}

static double seen_counter(const device_t *d, double t) {
    double number, tick;
    if (t > d->freeze_s) t = d->freeze_s;
    tick = last_tick(d, t - d->counter_delay_s, d->counter_period_s, d->counter_phase_s, &number);
    double energy = d->counter_base_j + true_energy(d, tick) * d->counter_gain;
    if (tick >= d->reset_s) energy = (true_energy(d, tick) - true_energy(d, d->reset_s)) * d->counter_gain;
    return d->counter_quantum_j > 0 ? floor(energy / d->counter_quantum_j) * d->counter_quantum_j : energy;
}

/* A call that hangs comes back when its time is over, as one does that waits for a driver's lock. */
static void wait_while_hanging(const device_t *d, const char *name) {
    for (int i = 0; i < d->hang_count; i++) {
        const status_t *h = &d->hangs[i];
        if (strcmp(h->name, name) && strcmp(h->name, "*")) continue;
        if (now_s() < h->from_s) continue;
        while (now_s() < h->until_s) nanosleep(&(struct timespec){0, 2000000}, NULL);
    }
}

static int status_of(const device_t *d, const char *name) {
    double t = -1;
    wait_while_hanging(d, name);
    for (int i = 0; i < d->status_count; i++) {
        const status_t *s = &d->statuses[i];
        if (strcmp(s->name, name) && strcmp(s->name, "*")) continue;
        if (t < 0) t = now_s();
        if (t >= s->from_s && t < s->until_s) return s->code;
    }
    return 0;
}

/* ---- the description ---- */

static void free_curve(curve_t *c) {
    free(c->t_s); free(c->power_w); free(c->energy_j);
    memset(c, 0, sizeof *c);
}

static int read_curve(device_t *d) {
    curve_t *c = &d->curve;
    FILE *file = fopen(d->path, "r");
    char line[256];
    int room = 0;
    c->count = 0; c->linear = d->linear; c->loop = d->loop;
    if (!file) { fprintf(stderr, "stand-in: no curve %s\n", d->path); return -1; }
    while (fgets(line, sizeof line, file)) {
        double t, p;
        if (sscanf(line, "%lf,%lf", &t, &p) != 2) continue;
        if (c->count == room) {
            room = room ? 2 * room : 256;
            c->t_s = realloc(c->t_s, room * sizeof(double));
            c->power_w = realloc(c->power_w, room * sizeof(double));
            c->energy_j = realloc(c->energy_j, room * sizeof(double));
        }
        int i = c->count++;
        c->t_s[i] = t; c->power_w[i] = p; c->energy_j[i] = 0;
        if (i) c->energy_j[i] = c->energy_j[i - 1] + (t - c->t_s[i - 1]) *
            (c->linear ? 0.5 * (c->power_w[i - 1] + p) : c->power_w[i - 1]);
    }
    fclose(file);
    return 0;
}

static void set_defaults(device_t *d) {
    memset(d, 0, sizeof *d);
    strcpy(d->device_name, "Stand-in Accelerator");
    strcpy(d->generation, "mi300");
    d->power_period_s = d->counter_period_s = 0.1;
    d->power_window_s = 0.025; d->average_window_s = 1.0;
    d->counter_quantum_j = 0.001; d->counter_gain = d->gain = 1.0;
    d->freeze_s = d->reset_s = INFINITY;
    d->memory_total_mib = 81920; d->memory_used_mib = 1024; d->temperature_c = 41; d->memory_temperature_c = 48;
    d->utilisation = 50; d->sm_clock_mhz = 1410; d->limit_w = 700; d->architecture = 9; d->missing = 65535;
    d->physical = -1; d->abi = 70; d->throttle_until_s = INFINITY;
}

#define NUMBER(field) if (!strcmp(key, #field)) { d->field = atof(value); return; }
#define TEXT(field) if (!strcmp(key, #field)) { snprintf(d->field, sizeof d->field, "%s", value); return; }

static void set_key(device_t *d, const char *key, const char *value) {
    NUMBER(power_period_s) NUMBER(power_phase_s) NUMBER(power_window_s) NUMBER(average_window_s)
    NUMBER(power_delay_s) NUMBER(period_jitter) NUMBER(counter_period_s) NUMBER(counter_phase_s)
    NUMBER(counter_delay_s) NUMBER(counter_quantum_j) NUMBER(counter_gain) NUMBER(counter_base_j)
    NUMBER(freeze_s) NUMBER(reset_s) NUMBER(gain) NUMBER(offset_w) NUMBER(noise_w) NUMBER(memory_total_mib)
    NUMBER(memory_used_mib) NUMBER(temperature_c) NUMBER(memory_temperature_c) NUMBER(utilisation)
    NUMBER(sm_clock_mhz) NUMBER(limit_w) NUMBER(architecture) NUMBER(mig) NUMBER(pid) NUMBER(process_mib)
    NUMBER(partition) NUMBER(physical) NUMBER(abi) NUMBER(linear) NUMBER(loop) NUMBER(missing)
    NUMBER(idle_pid) NUMBER(throttle_from_s) NUMBER(throttle_until_s)
    TEXT(path) TEXT(device_name) TEXT(uuid) TEXT(generation)
    if (!strcmp(key, "throttle")) { d->throttle = strtoull(value, NULL, 0); return; }
    if (!strcmp(key, "status") && d->status_count < MAX_STATUSES) {
        status_t *s = &d->statuses[d->status_count++];
        s->from_s = -INFINITY; s->until_s = INFINITY;
        sscanf(value, "%63s %d %lf %lf", s->name, &s->code, &s->from_s, &s->until_s);
        return;
    }
    if (!strcmp(key, "hang") && d->hang_count < MAX_STATUSES) {
        status_t *h = &d->hangs[d->hang_count++];
        h->from_s = -INFINITY; h->until_s = INFINITY;
        sscanf(value, "%63s %lf %lf", h->name, &h->from_s, &h->until_s);
        return;
    }
    fprintf(stderr, "stand-in: unknown key %s\n", key);
}

/* Returns the status that the library's own initialisation shall give. */
static int read_description(int not_loaded) {
    static device_t common;
    const char *path = getenv("HARNESS_STANDIN");
    char line[1024];
    for (int i = 0; i < device_count; i++) free_curve(&devices[i].curve);
    set_defaults(&common);
    device_count = 1; epoch_s = clock_s(); speed = 1; noise_seed = 1; call_count = 0;
    strcpy(driver_version, "stand-in");
    FILE *file = path ? fopen(path, "r") : NULL;
    /* Nothing to play: as on a machine where the library is installed and the driver is not loaded. */
    if (!file) { device_count = 0; return not_loaded; }
    for (int pass = 0; pass < 2; pass++) {
        rewind(file);
        while (fgets(line, sizeof line, file)) {
            char key[64], *value = line;
            int index = -1, length = 0;
            line[strcspn(line, "\n")] = 0;
            if (line[0] == '@' && sscanf(line, "@%d %n", &index, &length) == 1) value = line + length;
            if ((index >= 0) != (pass == 1)) continue;
            if (sscanf(value, "%63s %n", key, &length) != 1 || key[0] == '#') continue;
            value += length;
            if (!strcmp(key, "devices")) device_count = atoi(value) < MAX_DEVICES ? atoi(value) : MAX_DEVICES;
            else if (!strcmp(key, "epoch_s")) epoch_s = atof(value);
            else if (!strcmp(key, "speed")) speed = atof(value);
            else if (!strcmp(key, "seed")) noise_seed = strtoull(value, NULL, 0);
            else if (!strcmp(key, "driver_version")) snprintf(driver_version, sizeof driver_version, "%s", value);
            else if (pass == 0) set_key(&common, key, value);
            else if (index < device_count) set_key(&devices[index], key, value);
        }
        for (int i = 0; pass == 0 && i < device_count; i++) devices[i] = common;
    }
    fclose(file);
    for (int i = 0; i < device_count; i++) {
        device_t *d = &devices[i];
        if (!d->uuid[0]) snprintf(d->uuid, sizeof d->uuid, "GPU-00000000-0000-4000-8000-%012d", i);
        if (read_curve(d)) return 999;
    }
    return status_of(&common, "init");
}

/* ---- published beside the vendor's own symbols ---- */

EXPORT double standin_true_energy_j(unsigned index, double t_s) { return true_energy(&devices[index], t_s); }
EXPORT double standin_time_s(void) { return now_s(); }
EXPORT double standin_epoch_s(void) { return epoch_s; }
EXPORT long standin_calls(void) { return call_count; }
/* Holds the time still at t_s; a negative value lets it run again. */
EXPORT void standin_set_time_s(double t_s) { set_time_s = t_s; }

#endif
