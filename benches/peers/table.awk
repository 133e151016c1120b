# Turns results, one "round peer figure value unit" a line, into the table and the verdicts.
#
# Variables: strict (1: a missed target fails).
#
# What drifts on a machine drifts for all who run side by side, so a ratio is the median of the ratios
# of the rounds, not the ratio of the medians.

BEGIN {
    describe("w1", "W1 a panic, until it runs again")
    describe("w1e", "W1e an error, until it runs again")
    describe("w2_rate", "W2 restarts, 1,000 services panic (more is better)")
    describe("w2_cpu", "W2 CPU time of a restart")
    describe("w3_start", "W3 start, for each idle service")
    describe("w3_stop", "W3 stop, for each idle service")
    describe("w3_bytes", "W3 resident memory of a service")
    describe("w4_1", "W4 add, remove and wait, 1 client")
    describe("w4_1_ran", "W4 services whose code ran, 1 client")
    describe("w4_4", "W4 add, remove and wait, 4 clients")
    describe("w4_4_ran", "W4 services whose code ran, 4 clients")
    describe("w4r_1", "W4r the same, removed when its code runs, 1 client")
    describe("w4r_4", "W4r the same, removed when its code runs, 4 clients")
    describe("w5_cpu", "W5 CPU time of 1,000 idle services")
    describe("w5_wakes", "W5 their wake-ups")
    describe("w6_start", "W6 start of a tree of 1,111 supervisors")
    describe("w6_stop", "W6 its stop")
}

NF == 5 {
    key = $3 SUBSEP $2
    if (!(key in count)) order[++keys] = key
    if ($2 in seen == 0) { seen[$2]; peer[++peers] = $2 }
    value[key, ++count[key]] = $4
    at_round[$3, $2, $1] = $4
    unit[$3] = $5
    if ($1 + 0 > rounds) rounds = $1 + 0
}

END {
    print "| workload | peer | median | unit | lowest to highest | to backstay |"
    print "|---|---|---:|---|---:|---:|"
    for (f = 1; f <= figures; f++) {
        for (p = 1; p <= peers; p++) row(figure[f], peer[p])
    }
    print ""
    at_most("W1 of suture", "w1", "backstay", "suture", 0.65)
    at_most("W1 without trace, of ractor", "w1", "backstay-no-trace", "ractor", 0.95)
    at_least("W2 rate of suture", "w2_rate", "backstay", "suture", 1.6)
    at_most("W2 CPU time of suture", "w2_cpu", "backstay", "suture", 0.65)
    if (strict && missed) exit 1
}

function describe(name, text) {
    figure[++figures] = name
    title[name] = text
}

function row(figure, peer,    n, i, sorted, ratio) {
    n = count[figure, peer]
    if (!n) return
    for (i = 1; i <= n; i++) sorted[i] = value[figure, peer, i]
    sort(sorted, n)
    # A share is to be read as it is.
    ratio = peer == "backstay" || unit[figure] == "%" ? "" : ratio_of(figure, peer, "backstay")
    if (ratio != "") ratio = sprintf("%.2f", ratio)
    printf "| %s | %s | %s | %s | %s to %s | %s |\n", title[figure], peer, \
        short(middle(sorted, n)), unit[figure], short(sorted[1]), short(sorted[n]), ratio
}

# The median of the rounds' ratios; empty if there is none.
function ratio_of(figure, own, other,    r, n, ratios) {
    for (r = 1; r <= rounds; r++) {
        if (!((figure, own, r) in at_round) || !((figure, other, r) in at_round)) continue
        if (at_round[figure, other, r] + 0 == 0) continue
        ratios[++n] = at_round[figure, own, r] / at_round[figure, other, r]
    }
    if (!n) return ""
    sort(ratios, n)
    return middle(ratios, n)
}

function at_most(text, figure, own, other, max,    ratio) {
    ratio = ratio_of(figure, own, other)
    if (ratio != "") verdict(text, ratio, "at most", max, ratio <= max)
}

function at_least(text, figure, own, other, min,    ratio) {
    ratio = ratio_of(figure, own, other)
    if (ratio != "") verdict(text, ratio, "at least", min, ratio >= min)
}

function verdict(text, ratio, word, bound, met) {
    printf "%s: %.2f (target %s %s: %s)\n", text, ratio, word, bound, met ? "met" : "MISSED"
    if (!met) missed = 1
}

# Three digits that mean something, and no exponent.
function short(x) {
    if (x >= 100 || x == 0) return sprintf("%.0f", x)
    if (x >= 10) return sprintf("%.1f", x)
    return sprintf("%.2f", x)
}

# Of two in the middle their mean.
function middle(sorted, n) {
    if (n % 2) return sorted[(n + 1) / 2]
    return (sorted[n / 2] + sorted[n / 2 + 1]) / 2
}

function sort(a, n,    i, j, x) {
    for (i = 2; i <= n; i++) {
        x = a[i] + 0
        for (j = i - 1; j > 0 && a[j] + 0 > x; j--) a[j + 1] = a[j]
        a[j + 1] = x
    }
}
