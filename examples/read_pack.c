/* Read a golden pack and compute one depthwise convolution of it, to show that the numbers can be had again.

   npmobilenet trace IMAGE -m M -o PACK --format raw
   cc -std=c11 -O2 read_pack.c -o read_pack
   ./read_pack PACK conv_dw_1

   PACK/raw/index.tsv has one line a tensor and one a layer with a window, columns between tabs:

   tensor  kind/name  dtype  axes  shape  tolerance  file
   window  layer  type  stride  top  bottom  left  right  input

   Exit code 0: every value is within the tolerance. 1: one is not. 2: the pack cannot be read. */

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    float *values;
    long side[4];  /* shape; sides that it does not have are 1 */
    double tolerance;
} Tensor;

typedef struct {
    long stride, top, left;
    char type[64], input[256];
} Window;

static void fail(const char *what, const char *name) {
    fprintf(stderr, "read_pack: %s %s\n", what, name);
    exit(2);
}

static FILE *open_in(const char *pack, const char *file) {
    char path[4096];
    snprintf(path, sizeof path, "%s/raw/%s", pack, file);
    FILE *stream = fopen(path, "rb");
    if (!stream) fail("cannot open", path);
    return stream;
}

/* The line of index.tsv that begins with the two columns, cut at its tabs; returns the number of columns. */
static int find_line(const char *pack, const char *first, const char *second, char *line, int size, char *column[16]) {
    FILE *index = open_in(pack, "index.tsv");
    while (fgets(line, size, index)) {
        int count = 0;
        line[strcspn(line, "\n")] = 0;
        for (char *at = line; at && count < 16; at = strchr(at, '\t')) {
            if (count) *at++ = 0;
            column[count++] = at;
        }
        if (count > 1 && !strcmp(column[0], first) && !strcmp(column[1], second)) {
            fclose(index);
            return count;
        }
    }
    fail("index.tsv does not know", second);
    return 0;
}

static Tensor read_tensor(const char *pack, const char *kind, const char *name) {
    char line[4096], wanted[512], *column[16];
    Tensor tensor = {NULL, {1, 1, 1, 1}, 0};
    size_t count = 1;
    snprintf(wanted, sizeof wanted, "%s/%s", kind, name);
    if (find_line(pack, "tensor", wanted, line, sizeof line, column) != 7) fail("index.tsv is damaged at", wanted);
    if (strcmp(column[2], "float32")) fail("not float32:", wanted);
    if (!strcmp(column[3], "NCHW") || !strcmp(column[3], "OIHW")) fail("this program wants a pack in NHWC, not", column[3]);
    char *at = column[4];
    for (int axis = 0; axis < 4 && *at; axis++) {
        tensor.side[axis] = strtol(at, &at, 10);
        count *= (size_t)tensor.side[axis];
        if (*at == ',') at++;
    }
    tensor.tolerance = atof(column[5]);
    tensor.values = malloc(count * sizeof(float));
    FILE *file = open_in(pack, column[6]);
    if (!tensor.values || fread(tensor.values, sizeof(float), count, file) != count) fail("too short:", column[6]);
    fclose(file);
    return tensor;
}

static Window read_window(const char *pack, const char *layer) {
    char line[4096], *column[16];
    Window window;
    if (find_line(pack, "window", layer, line, sizeof line, column) != 9) fail("index.tsv is damaged at", layer);
    window.stride = atol(column[3]), window.top = atol(column[4]), window.left = atol(column[6]);
    snprintf(window.type, sizeof window.type, "%s", column[2]);
    snprintf(window.input, sizeof window.input, "%s", column[8]);
    return window;
}

/* y[n, i, j, c] = sum over u, v of x[n, i*stride + u - top, j*stride + v - left, c] * w[u, v, c], zeros outside of x.

   Taps are added in the order of the reference, one rounding each, from the first tap on (0 + -0 would lose a sign), so
   compiled without fused multiply-adds the bits are the reference's. */
static float depthwise(const Tensor *x, const Tensor *w, const Window *window, long n, long i, long j, long c) {
    float sum = 0;
    for (long u = 0; u < w->side[0]; u++)
        for (long v = 0; v < w->side[1]; v++) {
            long row = i * window->stride + u - window->top, column = j * window->stride + v - window->left;
            int inside = row >= 0 && row < x->side[1] && column >= 0 && column < x->side[2];
            float pixel = inside ? x->values[((n * x->side[1] + row) * x->side[2] + column) * x->side[3] + c] : 0;
            float term = pixel * w->values[(u * w->side[1] + v) * w->side[2] + c];
            sum = u + v == 0 ? term : sum + term;
        }
    return sum;
}

int main(int argc, char **argv) {
    if (argc != 3) fail("usage: read_pack PACK LAYER;", "LAYER is a depthwise convolution without bias");
    const char *pack = argv[1], *layer = argv[2];
    char kernel[512];
    snprintf(kernel, sizeof kernel, "%s/kernel", layer);
    Window window = read_window(pack, layer);
    if (strcmp(window.type, "DepthwiseConv2D")) fail("not a depthwise convolution:", layer);
    Tensor x = read_tensor(pack, "outputs", window.input);
    Tensor w = read_tensor(pack, "weights", kernel);
    Tensor y = read_tensor(pack, "outputs", layer);
    if (w.side[2] != y.side[3]) fail("more than one filter a channel:", layer);

    double worst = 0;
    long place = 0, equal = 0;
    for (long n = 0; n < y.side[0]; n++)
        for (long i = 0; i < y.side[1]; i++)
            for (long j = 0; j < y.side[2]; j++)
                for (long c = 0; c < y.side[3]; c++, place++) {
                    float ours = depthwise(&x, &w, &window, n, i, j, c);
                    double difference = fabs((double)ours - y.values[place]);
                    equal += !memcmp(&ours, &y.values[place], sizeof ours);
                    if (!(difference <= worst)) worst = isnan(difference) ? INFINITY : difference;
                }
    printf("%s: %ld of %ld values equal to the bit, largest difference %.2g, tolerance %.2g\n", layer, equal, place,
           worst, y.tolerance);
    free(x.values), free(w.values), free(y.values);
    return worst <= y.tolerance ? 0 : 1;
}
