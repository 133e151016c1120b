%% The workloads on the supervisor of Erlang/OTP: each service is a process. The README in the folder above
%% says what they are; one line per figure, "name value unit".
-module(peers).
-behaviour(supervisor).

-export([main/1, init/1, start/2, start/5, flaky/2, member/3, idle/1, pair/3]).

%% The tree of W6: one, ten, a hundred and a thousand supervisors.
-define(BELOW_EACH, 10).
-define(LEVELS, 3).

%% How long W5 stays idle for whoever watches; it is killed before. In milliseconds.
-define(IDLE_MAX, 300000).

%% How long W3 waits until everybody who has begun waits. In milliseconds.
-define(SETTLE, 500).

%% How many failures a supervisor sees in its life in the runs with a short history.
-define(SHORT, 100).

main([Workload | Numbers]) ->
    %% No report is written, nor made.
    ok = logger:set_primary_config(level, none),
    process_flag(trap_exit, true),
    workload(Workload, [list_to_integer(N) || N <- Numbers]),
    halt().

workload("w1", [Panics]) -> flaky("w1", panic, Panics);
workload("w1e", [Errors]) -> flaky("w1e", error, Errors);
workload("w1_short", [Panics]) -> short("w1", panic, Panics);
workload("w1e_short", [Errors]) -> short("w1e", error, Errors);
workload("w2", [Services, Panics]) -> crowd(Services, Panics);
workload("w3", [Services]) -> start_and_stop(Services);
workload("w4", [Pairs, Clients]) -> add_and_remove("w4", Pairs, Clients);
workload("w4r", [Pairs, Clients]) -> add_and_remove("w4r", Pairs, Clients);
workload("w5", [Services]) ->
    _ = start_idle(Services),
    figure("w5_pid", list_to_integer(os:getpid()), "id"),
    receive after ?IDLE_MAX -> ok end;
workload("w6", []) -> tree().

figure(Name, Value, Unit) ->
    io:format("~s ~.3f ~s~n", [Name, float(Value), Unit]).

%% The time each of N took, in microseconds.
figure_each(Name, Time, N) ->
    figure(Name, in(Time, microsecond) / N, "us").

now_native() -> erlang:monotonic_time().

%% With fractions, unlike erlang:convert_time_unit.
in(Time, Unit) ->
    Time * erlang:convert_time_unit(1, second, Unit) / erlang:convert_time_unit(1, second, native).

%% The supervisors

%% Restarts without end; at once, as always.
flags(Strategy) ->
    #{strategy => Strategy, intensity => 1000000000, period => 1}.

init({services, Specs}) ->
    {ok, {flags(one_for_one), Specs}};
init(dynamic) ->
    {ok, {flags(simple_one_for_one), [spec(pair, [])]}};
init({tree, 0}) ->
    {ok, {flags(one_for_one), []}};
init({tree, Levels}) ->
    Below = #{start => {supervisor, start_link, [?MODULE, {tree, Levels - 1}]}, type => supervisor},
    {ok, {flags(one_for_one), [Below#{id => I} || I <- lists:seq(1, ?BELOW_EACH)]}}.

%% A service: a function of this module.
spec(Function, Args) -> spec(Function, Function, Args).

spec(Id, Function, Args) ->
    #{id => Id, start => {?MODULE, start, [Function, Args]}}.

start(Function, Args) ->
    {ok, proc_lib:spawn_link(?MODULE, Function, Args)}.

%% One added while the supervisor runs, with arguments of its own.
start(Function, [], Workload, Runs, Client) ->
    start(Function, [Workload, Runs, Client]).

start_supervisor(Init) ->
    {ok, Supervisor} = supervisor:start_link(?MODULE, Init),
    Supervisor.

stop_supervisor(Supervisor) ->
    exit(Supervisor, shutdown),
    receive {'EXIT', Supervisor, shutdown} -> ok end.

fail(panic) -> error("a service panics");
fail(error) -> exit("a service fails").

%% W1 and W1e: one service that fails as often as it is told.

flaky(Name, How, Failures) ->
    {Supervisor, Left} = start_flaky(How),
    %% A tenth to warm up.
    _ = round_of(Left, max(1, Failures div 10)),
    figure_each(Name, round_of(Left, Failures), Failures),
    stop_supervisor(Supervisor).

%% The same with a fresh supervisor again and again, since the cost of a restart grows with those of the
%% last second.
short(Name, How, Failures) ->
    Rounds = max(1, Failures div ?SHORT),
    Times = [begin
                 {Supervisor, Left} = start_flaky(How),
                 Time = round_of(Left, ?SHORT),
                 stop_supervisor(Supervisor),
                 Time
             end || _ <- lists:seq(0, Rounds)],
    %% The first to warm up.
    figure_each(Name, lists:sum(tl(Times)), Rounds * ?SHORT).

start_flaky(How) ->
    Left = atomics:new(1, []),
    Supervisor = start_supervisor({services, [spec(flaky, [{Left, How}, self()])]}),
    receive {runs, Pid, _} -> put(flaky, Pid) end,
    {Supervisor, Left}.

round_of(Left, Failures) ->
    atomics:put(Left, 1, Failures),
    Begun = now_native(),
    get(flaky) ! run_again,
    receive
        {runs, Pid, End} ->
            put(flaky, Pid),
            End - Begun
    end.

flaky({Left, How} = State, Main) ->
    case atomics:get(Left, 1) of
        0 ->
            Main ! {runs, self(), now_native()},
            receive run_again -> flaky(State, Main) end;
        _ ->
            atomics:sub(Left, 1, 1),
            fail(How)
    end.

%% W2: services that panic together, each as often as all others.

crowd(Services, Panics) ->
    Each = Panics div Services,
    Left = atomics:new(Services, []),
    Missing = atomics:new(1, []),
    [atomics:put(Left, I, Each) || I <- lists:seq(1, Services)],
    atomics:put(Missing, 1, Services),
    Specs = [spec(I, member, [I, {Each, Left, Missing}, self()]) || I <- lists:seq(1, Services)],
    Supervisor = start_supervisor({services, Specs}),
    AtTheGate = [receive {at_the_gate, Pid} -> Pid end || _ <- Specs],
    Cpu = cpu_time(),
    Begun = now_native(),
    [Pid ! open || Pid <- AtTheGate],
    End = receive {done, Time} -> Time end,
    CpuTaken = cpu_time() - Cpu,
    Total = Each * Services,
    figure("w2_rate", Total / in(End - Begun, second), "1/s"),
    figure("w2_cpu", CpuTaken * 1.0e6 / Total, "us"),
    stop_supervisor(Supervisor).

member(I, {Each, Left, Missing}, Main) ->
    Mine = atomics:get(Left, I),
    case Mine of
        Each ->
            Main ! {at_the_gate, self()},
            receive open -> ok end;
        _ -> ok
    end,
    case Mine of
        0 ->
            case atomics:sub_get(Missing, 1, 1) of
                0 -> Main ! {done, now_native()};
                _ -> ok
            end,
            wait_stop();
        _ ->
            atomics:sub(Left, I, 1),
            fail(panic)
    end.

%% W3 and W5: services that wait for their stop.

start_and_stop(Services) ->
    Before = resident(),
    Begun = now_native(),
    Supervisor = start_idle(Services),
    figure_each("w3_start", now_native() - Begun, Services),
    receive after ?SETTLE -> ok end,
    figure("w3_bytes", (resident() - Before) / Services, "bytes"),
    Stopped = now_native(),
    stop_supervisor(Supervisor),
    figure_each("w3_stop", now_native() - Stopped, Services).

%% Returns when all run.
start_idle(Services) ->
    Missing = atomics:new(1, []),
    atomics:put(Missing, 1, Services),
    Specs = [spec(I, idle, [{Missing, self()}]) || I <- lists:seq(1, Services)],
    Supervisor = start_supervisor({services, Specs}),
    receive all_run -> ok end,
    Supervisor.

idle({Missing, Main}) ->
    case atomics:sub_get(Missing, 1, 1) of
        0 -> Main ! all_run;
        _ -> ok
    end,
    wait_stop().

wait_stop() ->
    receive never -> ok end.

%% W4, and W4r, which waits until the service's code runs before it removes it.

add_and_remove(Workload, Pairs, Clients) ->
    Supervisor = start_supervisor(dynamic),
    Runs = atomics:new(1, []),
    client(Workload, Supervisor, Runs, Pairs div 10),
    atomics:put(Runs, 1, 0),
    Each = Pairs div Clients,
    Begun = now_native(),
    Pids = [spawn_link(fun() -> client(Workload, Supervisor, Runs, Each) end)
            || _ <- lists:seq(1, Clients)],
    [receive {'EXIT', Pid, normal} -> ok end || Pid <- Pids],
    Name = Workload ++ "_" ++ integer_to_list(Clients),
    figure_each(Name, now_native() - Begun, Each * Clients),
    case Workload of
        "w4" -> figure(Name ++ "_ran", 100 * atomics:get(Runs, 1) / (Each * Clients), "%");
        "w4r" -> ok
    end,
    stop_supervisor(Supervisor).

client(_, _, _, 0) ->
    ok;
client(Workload, Supervisor, Runs, Pairs) ->
    {ok, Pid} = supervisor:start_child(Supervisor, [Workload, Runs, self()]),
    case Workload of
        "w4r" -> receive {runs, Pid} -> ok end;
        "w4" -> ok
    end,
    ok = supervisor:terminate_child(Supervisor, Pid),
    client(Workload, Supervisor, Runs, Pairs - 1).

pair(Workload, Runs, Client) ->
    case Workload of
        "w4r" -> Client ! {runs, self()};
        "w4" -> atomics:add(Runs, 1, 1)
    end,
    wait_stop().

%% W6.

tree() ->
    Begun = now_native(),
    Supervisor = start_supervisor({tree, ?LEVELS}),
    figure("w6_start", in(now_native() - Begun, millisecond), "ms"),
    Stopped = now_native(),
    stop_supervisor(Supervisor),
    figure("w6_stop", in(now_native() - Stopped, millisecond), "ms").

%% What the kernel counts

%% Resident memory of this process, in bytes.
resident() ->
    {ok, Text} = file:read_file("/proc/self/statm"),
    [_, Pages | _] = string:lexemes(Text, " "),
    binary_to_integer(Pages) * 4096.

%% User and system time of this process, in seconds; it counts ticks of 10 ms.
cpu_time() ->
    {ok, Text} = file:read_file("/proc/self/stat"),
    %% The name, in parentheses, may have anything in it.
    [_, Fields] = string:split(Text, ") ", trailing),
    [User, System] = lists:sublist(string:lexemes(Fields, " "), 12, 2),
    (binary_to_integer(User) + binary_to_integer(System)) / 100.
