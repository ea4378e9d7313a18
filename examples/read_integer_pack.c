/* Read a golden pack of a quantized network and compute one depthwise convolution of it, to the bit.

   npmobilenet trace IMAGE -m X.tflite -o PACK --format raw
   cc -std=c11 -O2 read_integer_pack.c -o read_integer_pack
   ./read_integer_pack PACK 1

   The number is that of the operator, as `npmobilenet compare` and `explain` have it. PACK/raw/index.tsv has one line a
   tensor and one a convolution, columns between tabs:

   rule    name
   tensor  kind/name  dtype  axes  shape  zero_point  file
   window  number  type  stride_y  stride_x  top  left  dilation_y  dilation_x  low  high  layer  input  weights  bias

   Exit code 0: every value is equal. 1: one is not. 2: the pack cannot be read. */

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { COLUMNS = 16, LINE = 8192 };

typedef struct {
    int32_t *values;
    long side[4]; /* shape; sides that it does not have are 1 */
    long size;
    int zero;
} Tensor;

static void fail(const char *what, const char *name) {
    fprintf(stderr, "read_integer_pack: %s %s\n", what, name);
    exit(2);
}

static FILE *open_in(const char *pack, const char *file) {
    char path[4096];
    snprintf(path, sizeof path, "%s/raw/%s", pack, file);
    FILE *stream = fopen(path, "rb");
    if (!stream) fail("cannot open", path);
    return stream;
}

/* The line of index.tsv that begins with the two columns (any second one if NULL), cut at its tabs. */
static void find_line(const char *pack, const char *first, const char *second, char *line, char *column[COLUMNS]) {
    FILE *index = open_in(pack, "index.tsv");
    while (fgets(line, LINE, index)) {
        int count = 0;
        line[strcspn(line, "\n")] = 0;
        for (char *at = line; at && count < COLUMNS; at = strchr(at, '\t')) {
            if (count) *at++ = 0;
            column[count++] = at;
        }
        if (count > 1 && !strcmp(column[0], first) && (!second || !strcmp(column[1], second))) {
            fclose(index);
            return;
        }
    }
    fail("index.tsv has no", second ? second : first);
}

static Tensor read_tensor(const char *pack, const char *kind, const char *name) {
    char line[LINE], *column[COLUMNS], full[LINE];
    Tensor t = {.side = {1, 1, 1, 1}, .size = 1};
    snprintf(full, sizeof full, "%s/%s", kind, name);
    find_line(pack, "tensor", full, line, column);
    int sides = 0;
    for (char *at = column[4]; *at && sides < 4; at += *at == ',') {
        t.side[sides++] = strtol(at, &at, 10);
        t.size *= t.side[sides - 1];
    }
    t.zero = atoi(column[5]);
    const int bytes = strcmp(column[2], "int32") ? 1 : 4, is_signed = column[2][0] == 'i';
    FILE *stream = open_in(pack, column[6]);
    t.values = malloc((size_t)t.size * sizeof *t.values);
    if (!t.values) fail("no memory for", full);
    for (long i = 0; i < t.size; i++) {
        unsigned char word[4] = {0};
        if (fread(word, (size_t)bytes, 1, stream) != 1) fail("too few values in", column[6]);
        if (bytes == 4)
            t.values[i] = (int32_t)(word[0] | (uint32_t)word[1] << 8 | (uint32_t)word[2] << 16 | (uint32_t)word[3] << 24);
        else
            t.values[i] = is_signed ? (int8_t)word[0] : word[0];
    }
    fclose(stream);
    return t;
}

/* acc q 2^-31 2^-s, rounded after the multiplication (halves up) and after the shift (halves away from zero). */
static int32_t rounded_twice(int32_t acc, int32_t q, int s) {
    const int left = s < 0 ? -s : 0, right = s > 0 ? s : 0;
    const int64_t high = ((int64_t)acc * (1 << left) * q + (1LL << 30)) >> 31;
    const int64_t half = right ? 1LL << (right - 1) : 0;
    return (int32_t)((high + half - (right && high < 0)) >> right);
}

/* The same, rounded once, halves up. */
static int32_t rounded_once(int32_t acc, int32_t q, int s) {
    return (int32_t)(((int64_t)acc * q + (1LL << (30 + s))) >> (31 + s));
}

int main(int arguments, char **argument) {
    if (arguments != 3) fail("usage: read_integer_pack", "PACK NUMBER");
    const char *pack = argument[1];
    char line[LINE], *column[COLUMNS], first[LINE], *rule[COLUMNS];
    find_line(pack, "rule", NULL, first, rule);
    const int once = !strcmp(rule[1], "single");
    if (!once && strcmp(rule[1], "tflite") && strcmp(rule[1], "tflm")) fail("no fixed point in rule", rule[1]);
    find_line(pack, "window", argument[2], line, column);
    if (strcmp(column[2], "DEPTHWISE_CONV_2D")) fail("no depthwise convolution:", column[2]);
    long number[8];
    for (int i = 0; i < 8; i++) number[i] = atol(column[3 + i]);
    const long stride_y = number[0], stride_x = number[1], top = number[2], left = number[3];
    const long dilation_y = number[4], dilation_x = number[5], low = number[6], high = number[7];
    const char *layer = column[11];
    const int from_image = !strcmp(argument[2], "0");
    const Tensor x = from_image ? read_tensor(pack, "image", "input") : read_tensor(pack, "outputs", column[12]);
    const Tensor w = read_tensor(pack, "weights", column[13]), b = read_tensor(pack, "weights", column[14]);
    const Tensor q = read_tensor(pack, "multipliers", layer), s = read_tensor(pack, "shifts", layer);
    const Tensor sums = read_tensor(pack, "accumulators", layer), y = read_tensor(pack, "outputs", layer);
    const long H = x.side[1], W = x.side[2], C = x.side[3], C_out = w.side[3], m = C_out / C;
    long equal = 0, equal_sums = 0;
    for (long i = 0; i < y.size; i++) {
        const long c = i % C_out, X = i / C_out % y.side[2], Y = i / C_out / y.side[2];
        int32_t acc = b.values[c];
        for (long u = 0; u < w.side[1]; u++)
            for (long v = 0; v < w.side[2]; v++) {
                const long row = Y * stride_y + u * dilation_y - top, place = X * stride_x + v * dilation_x - left;
                if (row < 0 || row >= H || place < 0 || place >= W) continue; /* the zero point: adds nothing */
                acc += (x.values[(row * W + place) * C + c / m] - x.zero) * (w.values[(u * w.side[2] + v) * C_out + c] - w.zero);
            }
        const long steps = once ? rounded_once(acc, q.values[c], s.values[c]) : rounded_twice(acc, q.values[c], s.values[c]);
        const long value = steps + y.zero;
        equal += y.values[i] == (value < low ? low : value > high ? high : value);
        equal_sums += sums.values[i] == acc;
    }
    printf("operator %s: %ld of %ld accumulators and %ld of %ld values equal to the bit\n", argument[2], equal_sums, y.size,
           equal, y.size);
    return equal != y.size || equal_sums != y.size;
}
