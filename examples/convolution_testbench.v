// One convolution of a quantized network as hardware computes it, checked against a golden pack to the bit.
//
//   npmobilenet trace IMAGE -m X.tflite -o PACK --format readmemh
//   iverilog -g2005 -I PACK/readmemh -DLAYER='"windows/1.vh"' -o layer convolution_testbench.v
//   (cd PACK/readmemh && vvp .../layer)
//
// The number is that of the operator, as `npmobilenet compare` and `explain` have it: any standard or depthwise
// convolution. The header windows/1.vh has its sizes, zero points and the names of its .hex files.

`timescale 1ns / 1ps

// acc + (x - zx) (w - zw) at every clock; `load` starts with the bias.
module mac (
    input clock,
    input load,
    input enable,
    input signed [31:0] bias,
    input signed [8:0] x,
    input signed [8:0] zero_x,
    input signed [8:0] w,
    input signed [8:0] zero_w,
    output reg signed [31:0] acc
);
    wire signed [9:0] a = x - zero_x;
    wire signed [9:0] b = w - zero_w;
    always @(posedge clock)
        if (load) acc <= bias;
        else if (enable) acc <= acc + a * b;
endmodule

// acc q 2^-31 2^-shift, rounded after the multiplication (halves up) and after the shift (halves away from zero);
// then the zero point is added, and the result is clipped.
module requantize (
    input signed [31:0] acc,
    input signed [31:0] q,
    input signed [31:0] shift,
    input signed [8:0] zero,
    input signed [8:0] low,
    input signed [8:0] high,
    output signed [8:0] y
);
    wire [5:0] left = shift < 0 ? -shift : 0;
    wire [5:0] right = shift > 0 ? shift : 0;
    wire signed [31:0] shifted = acc <<< left;
    wire signed [63:0] product = shifted * q;
    wire signed [63:0] product_rounded = product + 64'sd1073741824;
    wire signed [63:0] first = product_rounded >>> 31;
    wire signed [63:0] half = right == 0 ? 64'sd0 : (64'sd1 <<< (right - 1));
    wire signed [63:0] away = (right != 0 && first < 0) ? 64'sd1 : 64'sd0;
    wire signed [63:0] sum = first + half - away;
    wire signed [63:0] steps = sum >>> right;
    wire signed [63:0] value = steps + zero;
    assign y = value < low ? low : value > high ? high : value[8:0];
endmodule

module testbench;
    `include `LAYER

    reg [7:0] x[0:H*W*C-1];
    reg [7:0] w[0:K_H*K_W*(DEPTHWISE?C_OUT:C_OUT*DEPTH)-1];
    reg signed [31:0] b[0:C_OUT-1], q[0:C_OUT-1], s[0:C_OUT-1];
    reg signed [31:0] sums[0:H_OUT*W_OUT*C_OUT-1];
    reg [7:0] expected[0:H_OUT*W_OUT*C_OUT-1];

    reg clock = 0, load = 0, enable = 0;
    reg signed [8:0] x_now = 0, w_now = 0;
    reg signed [31:0] bias_now = 0, q_now = 0, s_now = 0;
    wire signed [31:0] acc;
    wire signed [8:0] y;
    wire signed [8:0] zero_x = ZERO_X, zero_w = ZERO_W, zero_y = ZERO_Y, low = LOW, high = HIGH;

    mac unit (clock, load, enable, bias_now, x_now, zero_x, w_now, zero_w, acc);
    requantize output_stage (acc, q_now, s_now, zero_y, low, high, y);

    function signed [8:0] extended(input [7:0] word);  // an 8-bit integer of the network's type
        extended = SIGNED ? {word[7], word} : {1'b0, word};
    endfunction

    task tick;
        begin
            #1 clock = 1;
            #1 clock = 0;
        end
    endtask

    integer row, column, c, u, v, k, in_row, in_column, at, wrong_sums, wrong;

    initial begin
        $readmemh(X_FILE, x);
        $readmemh(W_FILE, w);
        $readmemh(B_FILE, b);
        $readmemh(Q_FILE, q);
        $readmemh(S_FILE, s);
        $readmemh(ACC_FILE, sums);
        $readmemh(Y_FILE, expected);
        wrong = 0;
        wrong_sums = 0;
        for (row = 0; row < H_OUT; row = row + 1)
            for (column = 0; column < W_OUT; column = column + 1)
                for (c = 0; c < C_OUT; c = c + 1) begin
                    bias_now = b[c];
                    q_now = q[c];
                    s_now = s[c];
                    load = 1;
                    tick;
                    load = 0;
                    for (u = 0; u < K_H; u = u + 1)
                        for (v = 0; v < K_W; v = v + 1) begin
                            in_row = row * STRIDE_Y + u * DILATION_Y - TOP;
                            in_column = column * STRIDE_X + v * DILATION_X - LEFT;
                            if (in_row >= 0 && in_row < H && in_column >= 0 && in_column < W)
                                for (k = 0; k < (DEPTHWISE ? 1 : DEPTH); k = k + 1) begin
                                    at = (in_row * W + in_column) * C;
                                    x_now = extended(x[at + (DEPTHWISE ? c / (C_OUT / C) : k)]);
                                    w_now = extended(DEPTHWISE ? w[(u * K_W + v) * C_OUT + c]
                                                               : w[((c * K_H + u) * K_W + v) * DEPTH + k]);
                                    enable = 1;
                                    tick;
                                    enable = 0;
                                end
                        end
                    at = (row * W_OUT + column) * C_OUT + c;
                    if (acc !== sums[at]) wrong_sums = wrong_sums + 1;
                    if (y !== extended(expected[at])) wrong = wrong + 1;
                end
        $display("%0d of %0d accumulators and %0d of %0d values equal to the bit", H_OUT * W_OUT * C_OUT - wrong_sums,
                 H_OUT * W_OUT * C_OUT, H_OUT * W_OUT * C_OUT - wrong, H_OUT * W_OUT * C_OUT);
        $finish;
    end
endmodule
