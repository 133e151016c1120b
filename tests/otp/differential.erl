#!/usr/bin/env escript
%% -*- erlang -*-
%%! -kernel logger_level error

%% Runs histories through Erlang/OTP's own supervisor and says what it did, for the test
%% `differential_against_erlang_otp` in src/machine/tests/differential.
%%
%%     escript differential.erl HISTORIES ANSWERS
%%
%% HISTORIES holds one term for each history:
%%
%%     {Number, Strategy, Intensity | none, AutoShutdown, [Child], [Operation]}.
%%     Child = {Name, Restart, Significant, Rude}
%%     Operation = {exits, [{Name, Reason}]} | {terminate, Name} | {restart, Name} | {delete, Name}
%%               | {remove, Name} | {bounce, Name} | {start, Child} | stop
%%
%% ANSWERS gets one line for the start of the supervisor and one for each operation:
%%
%%     Number Answer | +a -b .. | a:up b:down .. | up, limit or shutdown
%%
%% Nothing here depends on time. A child that is started or asked to stop waits until that is in the
%% journal. An operation is over when the supervisor has answered a call made after it.

-module(differential).
-mode(compile).
-export([main/1, init/1, start_child/3, log/2]).

%% Nothing that a history does is older than this when it ends.
-define(PERIOD_SECONDS, 3600).
-define(SHUTDOWN_MS, 5000).
%% More than any history has failures.
-define(NO_INTENSITY, 1000000).

main([Histories, Answers]) ->
    ok = logger:remove_handler(default),
    ok = logger:add_handler(?MODULE, ?MODULE, #{}),
    {ok, Terms} = file:consult(Histories),
    Workers = erlang:system_info(schedulers_online),
    Lines = lists:append(side_by_side(fun history/1, Terms, Workers)),
    ok = file:write_file(Answers, [Line || {_Number, Line} <- lists:keysort(1, Lines)]).

%% Every worker does an equal part of the work.
side_by_side(Fun, Terms, Workers) ->
    Main = self(),
    Parts = [[T || T <- Terms, element(1, T) rem Workers =:= W] || W <- lists:seq(0, Workers - 1)],
    Work = fun(Part) -> fun() -> Main ! {self(), [{element(1, T), Fun(T)} || T <- Part]} end end,
    Pids = [spawn_link(Work(Part)) || Part <- Parts],
    [receive {Pid, Done} -> Done end || Pid <- Pids].

%% One history; all its lines.
history({Number, Strategy, Intensity, AutoShutdown, Children, Operations}) ->
    process_flag(trap_exit, true),
    Journal = spawn_link(fun() -> journal([]) end),
    Flags = #{strategy => Strategy,
              intensity => case Intensity of none -> ?NO_INTENSITY; _ -> Intensity end,
              period => ?PERIOD_SECONDS,
              auto_shutdown => AutoShutdown},
    {ok, Sup} = supervisor:start_link(?MODULE, {Flags, [spec(Journal, C) || C <- Children]}),
    First = settled(Sup, Journal, ok),
    Lines = operations(Operations, Sup, Journal, First),
    unlink(Journal),
    exit(Journal, kill),
    [[integer_to_list(Number), $\s, Line, $\n] || {_, Line} <- Lines].

init({Flags, Specs}) ->
    {ok, {Flags, Specs}}.

spec(Journal, {Name, Restart, Significant, Rude}) ->
    #{id => Name,
      start => {?MODULE, start_child, [Journal, Name, Rude]},
      restart => Restart,
      significant => Significant,
      shutdown => ?SHUTDOWN_MS}.

operations(_, _, _, {over, _} = Last) ->
    [Last];
operations([], _, _, Last) ->
    [Last];
operations([Operation | Rest], Sup, Journal, Last) ->
    Answer = perform(Operation, Sup, Journal),
    [Last | operations(Rest, Sup, Journal, settled(Sup, Journal, Answer))].

perform({exits, Exits}, Sup, _Journal) ->
    Pids = [{Name, Pid} || {Name, Pid, _, _} <- supervisor:which_children(Sup)],
    %% All of them are in the supervisor's mailbox, in this order, before it looks at the first.
    ok = sys:suspend(Sup),
    Answers = [end_child(proplists:get_value(Name, Pids), Reason, Sup) || {Name, Reason} <- Exits],
    ok = sys:resume(Sup),
    Answers;
perform({terminate, Name}, Sup, _Journal) ->
    said(supervisor:terminate_child(Sup, Name));
perform({restart, Name}, Sup, _Journal) ->
    said(supervisor:restart_child(Sup, Name));
perform({delete, Name}, Sup, _Journal) ->
    said(supervisor:delete_child(Sup, Name));
perform({remove, Name}, Sup, _Journal) ->
    %% The spec of a temporary child goes with its process.
    Answer = said(supervisor:terminate_child(Sup, Name)),
    _ = supervisor:delete_child(Sup, Name),
    Answer;
perform({bounce, Name}, Sup, _Journal) ->
    case supervisor:get_childspec(Sup, Name) of
        {ok, #{restart := temporary}} ->
            temporary;
        {ok, _} ->
            ok = supervisor:terminate_child(Sup, Name),
            said(supervisor:restart_child(Sup, Name));
        Error ->
            said(Error)
    end;
perform({start, Child}, Sup, Journal) ->
    said(supervisor:start_child(Sup, spec(Journal, Child)));
perform(stop, Sup, _Journal) ->
    exit(Sup, shutdown),
    ok.

said(ok) -> ok;
said({ok, _Pid}) -> ok;
said({error, {already_started, _Pid}}) -> already_started;
said({error, {bad_combination, _}}) -> bad_combination;
said({error, Reason}) -> Reason.

end_child(Pid, Reason, Sup) when is_pid(Pid) ->
    case Reason of
        kill -> exit(Pid, kill);
        _ -> Pid ! {finish, Reason}
    end,
    until_told(Sup, Pid);
end_child(_, _, _) ->
    down.

%% Until the supervisor, which is suspended, has got the news.
until_told(Sup, Pid) ->
    {messages, Messages} = process_info(Sup, messages),
    case [told || {'EXIT', P, _} <- Messages, P =:= Pid] of
        [told] ->
            ended;
        [] ->
            erlang:yield(),
            until_told(Sup, Pid)
    end.

%% The line of an operation, when everything that it led to has happened.
settled(Sup, Journal, Answer) ->
    Children = try supervisor:which_children(Sup) catch exit:_ -> over end,
    {Mark, States, Verdict} =
        case Children of
            over -> {over, [], verdict(Sup)};
            _ -> {up, states(Children), "up"}
        end,
    Parts = [io_lib:format("~w", [Answer]), spaced(entries(Journal)), spaced(States), Verdict],
    {Mark, lists:join(" | ", Parts)}.

states(Children) ->
    [io_lib:format("~s:~s", [Name, if is_pid(Pid) -> up; true -> down end])
     || {Name, Pid, _, _} <- lists:sort(Children)].

spaced(Words) ->
    lists:join($\s, Words).

%% Why a supervisor has ended. What it logged came before its exit.
verdict(Sup) ->
    receive {'EXIT', Sup, shutdown} -> ok end,
    receive
        {limit_reached, Sup} -> "limit"
    after 0 ->
        "shutdown"
    end.

%% Runs in the supervisor that logs.
log(#{msg := {report, #{label := {supervisor, shutdown}, report := Report}}}, _Config) ->
    reached_max_restart_intensity = proplists:get_value(reason, Report),
    [Runner | _] = get('$ancestors'),
    Runner ! {limit_reached, self()};
log(#{msg := {report, #{label := {supervisor, _}}}}, _Config) ->
    ok;
log(#{level := Level} = Event, _Config) when Level =:= error ->
    io:format(standard_error, "~p~n", [Event]);
log(_, _) ->
    ok.

%% Returns when the start is in the journal. A rude child answers a stop with an error.
start_child(Journal, Name, Rude) ->
    Sup = self(),
    Pid = spawn_link(fun() ->
                             process_flag(trap_exit, true),
                             note(Journal, [$+ | atom_to_list(Name)]),
                             Sup ! {self(), up},
                             child(Sup, Journal, Name, Rude)
                     end),
    receive {Pid, up} -> {ok, Pid} end.

child(Sup, Journal, Name, Rude) ->
    receive
        {finish, boom} ->
            exit(boom);
        {finish, Reason} ->
            exit(Reason);
        {'EXIT', Sup, shutdown} ->
            note(Journal, [$- | atom_to_list(Name)]),
            exit(case Rude of true -> rude; false -> shutdown end)
    end.

note(Journal, Entry) ->
    Journal ! {self(), note, Entry},
    receive {Journal, noted} -> ok end.

%% Everything since the last time.
entries(Journal) ->
    Journal ! {self(), entries},
    receive {Journal, entries, Entries} -> Entries end.

journal(Entries) ->
    receive
        {From, note, Entry} ->
            From ! {self(), noted},
            journal([Entry | Entries]);
        {From, entries} ->
            From ! {self(), entries, lists:reverse(Entries)},
            journal([])
    end.
